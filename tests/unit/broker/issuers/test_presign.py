"""Vectors made by botocore and by a signer written from the specification; both agree."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import pytest

from broker.issuers.presign import DerivedKeys, Signer, cache_token, derive_key, dsql_token, rds_token
from tollbridge.secret import Secret

AT = datetime(2026, 1, 15, 12, 0, 0, tzinfo=UTC)
SECRET = Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//TOKEN+with/specials=="
SIGNER = Signer(access_key_id="ASIAIOSFODNN7EXAMPLE", secret_key=SECRET, session_token=Secret(TOKEN))
HOST = "rds-postgres.abcdef012345.us-west-1.rds.amazonaws.com"


def make(*, signer: Signer = SIGNER, host: str = HOST, port: int = 5432, db_user: str = "app_user") -> str:
    return rds_token(signer, DerivedKeys(), host=host, port=port, db_user=db_user, region="us-west-1", at=AT).reveal()


def signature(token: str) -> str:
    return dict(parse_qsl(urlsplit("https://" + token).query))["X-Amz-Signature"]


@pytest.mark.parametrize(
    ("region", "service", "key"),
    [
        ("us-west-1", "rds-db", "497e604137a2c152cc3952357959250b0feb996cdf276ef561042ae4961dd27e"),
        ("us-west-1", "dynamodb", "f3c26c409a6547153fd145f006653871398222a2389710f3c8fff9242a51cd51"),
        ("us-west-2", "cassandra", "4c34a3a7b6a8446eb4d16e70823bda395982fd66f3aff6c94c84692b6d72a817"),
        ("us-east-1", "sts", "d89168d789be02eccf685b6ec6d8530267b4b202a2a009c9318141906bf42440"),
    ],
)
def test_derived_keys(region: str, service: str, key: str) -> None:
    assert derive_key(SECRET, date="20260115", region=region, service=service).hex() == key


def test_vector_rds_1() -> None:
    token = make()
    assert token.startswith(f"{HOST}:5432/?Action=connect&DBUser=app_user&X-Amz-Algorithm=AWS4-HMAC-SHA256&")
    assert "X-Amz-Expires=900" in token
    assert len(token) == 440
    assert signature(token) == "000e277d0b631b9d4777b02d8b9bee3ce04f5f7f1f043b3bbd834a1c9c5180da"


def test_without_a_session_token() -> None:
    signer = Signer(access_key_id=SIGNER.access_key_id, secret_key=SECRET, session_token=Secret(""))
    assert signature(make(signer=signer)) == "1e21ac79d8e3c5cf9c44dc6d5ea3670a143addaa64f6cdf02dcc28cf646866b4"


def test_port_443_is_left_out_of_the_signed_host_but_not_of_the_token() -> None:
    token = make(port=443)
    assert token.startswith(f"{HOST}:443/?")
    assert signature(token) == "24630ecbeeea8fc2cb6393f808f8139770c633134d2c5b22564ad0459049f92a"


def test_a_user_name_with_everything_in_it() -> None:
    token = make(db_user="jane doe+x@corp")
    assert "DBUser=jane%20doe%2Bx%40corp&" in token
    assert signature(token) == "e3e71664b5a36da15344689447162a288f076b14a55ccf13a6ffd049181cace1"


def test_the_case_of_the_host_does_not_matter() -> None:
    assert make(host=HOST.upper()) == make()


@pytest.mark.parametrize(
    ("service", "cache", "serverless", "expected"),
    [
        ("elasticache", "my-rg", False, "3a4cbea616c97541184a503c3dbce53d3718617be58adffe3b571130d2839900"),
        ("elasticache", "cache-01", True, "749ddcad7ba7ce928af7acef8fa202d438d8ef755fbd5d5a551d4421ab8445c6"),
        ("memorydb", "cluster-01", False, "351c8519f8941ef13ee69f120ce4a9f966c48e8cd30e40223fd54943dabaa848"),
    ],
)
def test_vectors_of_the_caches(service: str, cache: str, serverless: bool, expected: str) -> None:
    def make(name: str) -> str:
        return cache_token(
            SIGNER,
            DerivedKeys(),
            service=service,
            cache=name,
            serverless=serverless,
            db_user="iam-user-01",
            region="us-west-1",
            at=AT,
        ).reveal()

    token = make(cache)
    kind = "ResourceType=ServerlessCache&" if serverless else ""
    assert token.startswith(f"{cache}/?Action=connect&{kind}User=iam-user-01&X-Amz-Algorithm=AWS4-HMAC-SHA256&")
    assert ("ResourceType" in token) is serverless
    assert signature(token) == expected
    assert make(cache.upper()) == token, "AWS lower-cases names"


def test_vector_dsql() -> None:
    host = "abcdefghijklmnopqrst123456.dsql.us-west-1.on.aws"

    def make(*, admin: bool) -> str:
        return dsql_token(SIGNER, DerivedKeys(), host=host, admin=admin, region="us-west-1", at=AT).reveal()

    token = make(admin=False)
    assert token.startswith(f"{host}/?Action=DbConnect&X-Amz-Algorithm=")
    assert signature(token) == "3659653c3b1890a3cc94f0f8b9622c57e8ffa0c890af2e293910f80228b836d7"
    assert make(admin=True).startswith(f"{host}/?Action=DbConnectAdmin&")
    assert signature(make(admin=True)) != signature(token)


def test_a_derived_key_is_cached_by_session_and_secret_and_the_cache_is_bounded() -> None:
    keys = DerivedKeys(capacity=3)

    def get(key_id: str, secret: str, date: str = "20260115") -> bytes:
        signer = Signer(access_key_id=key_id, secret_key=Secret(secret), session_token=Secret(""))
        return keys.get(signer, date=date, region="us-west-1", service="rds-db")

    assert get("A", "one") == get("A", "one")
    assert len(keys) == 1
    assert get("A", "two") != get("A", "one")
    assert get("A", "one", "20260116") != get("A", "one")
    for number in range(10):
        get(f"K{number}", "s")
    assert len(keys) == 3
    keys.forget("K9")
    assert len(keys) == 2
