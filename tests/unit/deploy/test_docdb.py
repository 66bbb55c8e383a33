"""What stands in front of the sandbox's MongoDB server: its messages, the login it asks for, who is primary."""

from __future__ import annotations

import asyncio
import re
import struct
import zlib
from pathlib import Path

import bson
import pytest

from deploy.sandbox import cassandra, documentdb, maven, topology
from deploy.sandbox.docdb import messages
from deploy.sandbox.docdb.cluster import Cluster
from deploy.sandbox.docdb.login import Denied, Exchange
from tests.support import mongo

NONCE = bytes(range(32))
STS = "sts.us-west-1.amazonaws.com"
SIGNED = "content-length;content-type;host;x-amz-date;x-amz-security-token;x-mongodb-gs2-cb-flag;x-mongodb-server-nonce"


def nobody() -> tuple[str, int]:
    """STS that must not be asked."""
    raise AssertionError("STS was asked")


def exchange() -> Exchange:
    """One that is about to begin."""
    return Exchange(STS, frozenset({topology.DATABASE_USER_ROLE_ARN}), nobody)


def first(nonce: bytes = NONCE, flag: int = 110, mechanism: str = "MONGODB-AWS") -> dict[str, object]:
    """saslStart, as drivers say it."""
    return {"saslStart": 1, "mechanism": mechanism, "payload": bson.encode({"r": nonce, "p": flag})}


def second(**changes: object) -> dict[str, object]:
    """saslContinue with a proof."""
    proof = {"a": f"AWS4-HMAC-SHA256 SignedHeaders={SIGNED}, Signature=0", "d": "20260115T120000Z", "t": "token"}
    return {"saslContinue": 1, "payload": bson.encode({**proof, **changes})}


async def read(data: bytes, limit: int = 4096) -> messages.Message | None:
    """What a connection that brings these bytes says."""
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await messages.read(reader, limit)


def test_the_servers_nonce_begins_with_the_clients_and_is_never_the_same() -> None:
    said = [exchange().start(first()) for _ in range(2)]
    for answer in said:
        assert (bytes(answer["s"])[:32], len(answer["s"]), answer["h"]) == (NONCE, 64, STS)
    assert said[0]["s"] != said[1]["s"]


@pytest.mark.parametrize(
    "command",
    [
        first(nonce=b"short"),
        first(flag=121),
        first(mechanism="SCRAM-SHA-256"),
        {"saslStart": 1, "mechanism": "MONGODB-AWS"},
        {"saslStart": 1, "mechanism": "MONGODB-AWS", "payload": b"\0"},
    ],
)
def test_a_first_step_that_is_none_is_denied(command: dict[str, object]) -> None:
    with pytest.raises(Denied):
        exchange().start(command)


@pytest.mark.parametrize("unsigned", ["host", "x-amz-date", "x-mongodb-server-nonce", "x-mongodb-gs2-cb-flag"])
def test_a_proof_that_does_not_sign_what_it_must_is_denied_before_sts_is_asked(unsigned: str) -> None:
    login = exchange()
    login.start(first())
    names = ";".join(name for name in SIGNED.split(";") if name != unsigned)
    with pytest.raises(Denied, match="not signed"):
        login.finish(second(a=f"AWS4-HMAC-SHA256 SignedHeaders={names}, Signature=0"))


def test_a_proof_before_the_first_step_is_denied() -> None:
    with pytest.raises(Denied):
        exchange().finish(second())


async def test_messages_are_read_within_their_bounds() -> None:
    whole = mongo.op_msg({"ping": 1, "$db": "admin"}, 7)
    message = await read(whole)
    assert message is not None
    assert (message.request_id, message.name(), message.document()["$db"]) == (7, "ping", "admin")
    assert await read(b"") is None
    for broken in (whole[:-1], b"\x05\0\0\0" + whole[4:], b"\xff\xff\xff\x7f" + whole[4:]):
        with pytest.raises(messages.Broken):
            await read(broken)


async def test_a_compressed_message_is_as_good_and_as_bounded() -> None:
    whole = mongo.op_msg({"ping": 1, "$db": "admin"}, 7)

    def compressed(size: int, kind: int = 2) -> bytes:
        content = struct.pack("<iiB", 2013, size, kind) + zlib.compress(whole[16:])
        return struct.pack("<iiii", 16 + len(content), 7, 0, 2012) + content

    message = await read(compressed(len(whole) - 16))
    assert message is not None
    assert message.whole[16:] == whole[16:]
    for broken in (
        compressed(len(whole) - 17),
        compressed(len(whole) - 16, kind=1),
        compressed(-1),
        compressed(1 << 30),
    ):
        with pytest.raises(messages.Broken):
            await read(broken)


def test_when_the_primary_changes_every_node_says_so_and_drivers_can_tell() -> None:
    cluster = Cluster(tuple(documentdb.nodes(topology.DOCUMENTDB)))
    before = cluster.hello(0, {"hello": 1}, 1)
    cluster.change_primary()
    after, other = cluster.hello(0, {"ismaster": 1}, 1), cluster.hello(1, {"hello": 1}, 2)
    assert (before["isWritablePrimary"], after["ismaster"], other["isWritablePrimary"]) == (True, False, True)
    assert after["primary"] == other["me"] != before["me"] == after["me"]
    assert after["topologyVersion"]["counter"] == before["topologyVersion"]["counter"] + 1


def test_the_jars_of_cassandra_are_named_once_and_by_hash() -> None:
    artifacts = maven.listed(Path(cassandra.__file__).with_name("keyspaces") / "jars.txt")
    assert len({artifact.file_name for artifact in artifacts}) == len(artifacts) > 50
    assert all(re.fullmatch("[0-9a-f]{64}", artifact.sha256) for artifact in artifacts)
    names = {artifact.name for artifact in artifacts}
    assert {"cassandra-all", "ecj"} <= names
