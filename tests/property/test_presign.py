"""Our signer against botocore's, parameter for parameter."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import botocore.auth
import botocore.session
import pytest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.model import ServiceId
from botocore.signers import RequestSigner
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.issuers.presign import DerivedKeys, Signer, cache_token, dsql_token, rds_token
from tollbridge.secret import Secret

LABEL = st.text("abcdefghijklmnopqrstuvwxyzABCDEFXYZ0123456789-", min_size=1, max_size=20).filter(
    lambda label: label[0] != "-" and label[-1] != "-"
)
HOSTS = st.lists(LABEL, min_size=1, max_size=6).map(".".join)
KEY_IDS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=16, max_size=20)
SECRETS = st.text("abcdefABCDEF0123456789/+", min_size=20, max_size=40)
TOKENS = st.one_of(st.just(""), st.text("abcdefABCDEF0123456789/+=", min_size=1, max_size=1200))
USERS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
REGIONS = st.sampled_from(["us-west-1", "eu-central-1", "cn-north-1", "us-gov-west-1", "ap-southeast-5"])
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001

KEYS = DerivedKeys(capacity=16)


class Peer:
    """botocore's generate_db_auth_token at a moment of our choice."""

    def __init__(self) -> None:
        self.session = botocore.session.Session()
        self.moment = datetime(2030, 1, 1, tzinfo=UTC)
        client: Any = self.session.create_client(
            "rds",
            region_name="us-east-1",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="secret",
            config=Config(signature_version="v4"),
        )
        self.client = client
        self.dsql: Any = self.session.create_client(
            "dsql", region_name="us-east-1", aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret"
        )

    def now(self, remove_tzinfo: bool = True) -> datetime:
        return self.moment.replace(tzinfo=None) if remove_tzinfo else self.moment

    def token(self, signer: Signer, host: str, port: int, user: str, region: str, at: datetime) -> str:
        self._become(self.client, signer, at)
        token: str = self.client.generate_db_auth_token(DBHostname=host, Port=port, DBUsername=user, Region=region)
        return token

    def dsql_token(self, signer: Signer, host: str, admin: bool, region: str, at: datetime) -> str:
        self._become(self.dsql, signer, at)
        name = "generate_db_connect_admin_auth_token" if admin else "generate_db_connect_auth_token"
        token: str = getattr(self.dsql, name)(Hostname=host, Region=region)
        return token

    def presigned(
        self, signer: Signer, service: str, host: str, query: dict[str, str], region: str, at: datetime
    ) -> str:
        """The recipe of AWS's documentation for caches: presign a GET of the cache's name, drop the scheme."""
        self.moment = at
        credentials = Credentials(
            signer.access_key_id, signer.secret_key.reveal(), signer.session_token.reveal() or None
        )
        emitter = self.session.get_component("event_emitter")
        request_signer = RequestSigner(ServiceId(service), region, service, "v4", credentials, emitter)
        url = f"https://{host}/?{urlencode(query, quote_via=quote)}"
        request = {"method": "GET", "url": url, "body": {}, "headers": {}, "context": {}}
        signed: str = request_signer.generate_presigned_url(
            request, operation_name="connect", expires_in=900, region_name=region
        )
        return signed.removeprefix("https://")

    def _become(self, client: Any, signer: Signer, at: datetime) -> None:
        self.moment = at
        credentials = client._request_signer._credentials
        credentials.access_key = signer.access_key_id
        credentials.secret_key = signer.secret_key.reveal()
        credentials.token = signer.session_token.reveal() or None


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    peer = Peer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", peer.now)
        yield peer


def parts(token: str) -> tuple[str, str, dict[str, str]]:
    split = urlsplit("https://" + token)
    pairs = parse_qsl(split.query, keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return split.netloc.lower(), split.path, dict(pairs)


@settings(max_examples=3000, deadline=None)
@given(
    key_id=KEY_IDS,
    secret=SECRETS,
    session_token=TOKENS,
    host=HOSTS,
    port=st.one_of(st.just(443), st.just(5432), st.integers(1, 65535)),
    user=USERS,
    region=REGIONS,
    at=MOMENTS,
)
def test_equal_to_botocore_parameter_for_parameter(
    peer: Peer,
    key_id: str,
    secret: str,
    session_token: str,
    host: str,
    port: int,
    user: str,
    region: str,
    at: datetime,
) -> None:
    signer = Signer(access_key_id=key_id, secret_key=Secret(secret), session_token=Secret(session_token))
    ours = rds_token(signer, KEYS, host=host, port=port, db_user=user, region=region, at=at).reveal()
    assert parts(ours) == parts(peer.token(signer, host, port, user, region, at))


@settings(max_examples=3000, deadline=None)
@given(
    key_id=KEY_IDS,
    secret=SECRETS,
    session_token=TOKENS,
    service=st.sampled_from(["elasticache", "memorydb"]),
    cache=LABEL,
    serverless=st.booleans(),
    user=USERS,
    region=REGIONS,
    at=MOMENTS,
)
def test_cache_tokens_are_what_the_recipe_gives(
    peer: Peer,
    key_id: str,
    secret: str,
    session_token: str,
    service: str,
    cache: str,
    serverless: bool,
    user: str,
    region: str,
    at: datetime,
) -> None:
    signer = Signer(access_key_id=key_id, secret_key=Secret(secret), session_token=Secret(session_token))
    ours = cache_token(
        signer, KEYS, service=service, cache=cache, serverless=serverless, db_user=user, region=region, at=at
    ).reveal()
    query = {"Action": "connect", "User": user} | ({"ResourceType": "ServerlessCache"} if serverless else {})
    assert parts(ours) == parts(peer.presigned(signer, service, cache.lower(), query, region, at))


@settings(max_examples=3000, deadline=None)
@given(
    key_id=KEY_IDS,
    secret=SECRETS,
    session_token=TOKENS,
    host=HOSTS,
    admin=st.booleans(),
    region=REGIONS,
    at=MOMENTS,
)
def test_dsql_tokens_equal_botocore(
    peer: Peer, key_id: str, secret: str, session_token: str, host: str, admin: bool, region: str, at: datetime
) -> None:
    signer = Signer(access_key_id=key_id, secret_key=Secret(secret), session_token=Secret(session_token))
    ours = dsql_token(signer, KEYS, host=host, admin=admin, region=region, at=at).reveal()
    assert parts(ours) == parts(peer.dsql_token(signer, host, admin, region, at))


@settings(max_examples=200, deadline=None)
@given(at=MOMENTS, seconds=st.integers(0, 86400))
def test_a_cached_key_signs_as_a_new_one_does(at: datetime, seconds: int) -> None:
    signer = Signer(access_key_id="ASIAEXAMPLE", secret_key=Secret("s"), session_token=Secret("t"))
    keys = DerivedKeys()
    for moment in (at, at + timedelta(seconds=seconds), at):
        warm, cold = (
            rds_token(signer, cache, host="h", port=1, db_user="u", region="us-east-1", at=moment)
            for cache in (keys, DerivedKeys())
        )
        assert warm == cold
