"""Guards that watch upstream: what they let pass at a glance takes the fast way, in order with what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import Side
from proxy.guard import Answer, Drop, Guard, Pass, Verdict
from proxy.model import SocketAddress
from proxy.net.channel import Channel
from tests.support.ca import TestCa
from tests.support.stage import proxy_stage, until
from tests.support.toy import ToyEngine

both = pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])


class Censor(Guard):
    """Replaces what upstream says when there is a `!` in it."""

    def __init__(self) -> None:
        self.shown: list[bytes] = []

    def passes(self, data: bytes) -> bool:
        return True

    def passes_upstream(self, data: bytes) -> bool:
        return b"!" not in data

    def client_bytes(self, data: bytes) -> Sequence[Verdict]:
        return [Pass(len(data))]

    def upstream_bytes(self, data: bytes) -> Sequence[Verdict]:
        self.shown.append(data)
        return [Answer(b"(censored)"), Drop(len(data))]

    def granted(self, user: str, password: str) -> Sequence[Verdict]:
        return ()


@both
async def test_what_passes_at_a_glance_is_shown_no_further(ca: TestCa, tmp_path: Path, encrypted: bool) -> None:
    """And arrives in order with the rest; both count, and the last of it ends an answer."""
    guards: list[Censor] = []

    def guard() -> Guard:
        guards.append(Censor())
        return guards[-1]

    async with proxy_stage(ca, tmp_path, engine=ToyEngine(guard)) as stage:
        client = await stage.login(encrypted=encrypted)
        for said, heard in ((b"one", b"one"), (b"two!", b"(censored)"), (b"three\n", b"three\n")):
            await client.send(said)
            assert await client.exactly(len(heard)) == heard
        assert guards[0].shown == [b"two!"]
        await stage.listener.drain(0)
        assert await client.to_end() == b"BYE DRAINING\n"
        await until(lambda: stage.log.ends)
        assert stage.log.ends[0].bytes_to_client == len(b"one(censored)three\n")


async def test_a_glance_that_fails_harms_its_own_session_only(ca: TestCa, tmp_path: Path) -> None:
    class Broken(Censor):
        def passes_upstream(self, data: bytes) -> bool:
            raise ZeroDivisionError

    async with proxy_stage(ca, tmp_path, engine=ToyEngine(Broken)) as stage:
        client = await stage.login()
        await client.send(b"x")
        assert await client.to_end() == b""
        await until(lambda: stage.log.ends)
        assert stage.log.ends[0].ended == "fault"


class Talker(Guard):
    """Answers every byte of the client with thirty, and tells upstream nothing."""

    def __init__(self) -> None:
        self.shown = 0

    def client_bytes(self, data: bytes) -> Sequence[Verdict]:
        self.shown += len(data)
        return [Answer(bytes(30 * len(data))), Drop(len(data))]

    def passes(self, data: bytes) -> bool:
        return False

    def upstream_bytes(self, data: bytes) -> Sequence[Verdict]:
        return [Pass(len(data))]

    def granted(self, user: str, password: str) -> Sequence[Verdict]:
        return ()


async def test_a_client_that_reads_no_answers_is_read_no_further(ca: TestCa, tmp_path: Path) -> None:
    """Or what a guard says to it would fill the proxy's memory; once it reads, all of it arrives."""
    guards: list[Talker] = []

    def guard() -> Guard:
        guards.append(Talker())
        return guards[-1]

    async with proxy_stage(ca, tmp_path, engine=ToyEngine(guard)) as stage, asyncio.timeout(20):
        greedy, other = await stage.login(receive_buffer=4096), await stage.login()
        async with asyncio.TaskGroup() as group:
            group.create_task(greedy.send(bytes(1_000_000)))
            for _ in range(300):
                await other.send(b"x")
                await other.exactly(30)
            assert guards[0].shown < 700_000
            left = 30_000_000
            while left:
                left -= len(await greedy.receive(min(left, 65536)))
        assert guards[0].shown == 1_000_000


@pytest.mark.parametrize(
    ("sockname", "address"),
    [
        (("127.0.0.1", 9042), SocketAddress(host="127.0.0.1", packed=b"\x7f\0\0\x01", port=9042)),
        (("::ffff:10.0.0.7", 9042, 0, 0), SocketAddress(host="10.0.0.7", packed=b"\x0a\0\0\x07", port=9042)),
        (("fe80::1%eth0", 1, 0, 2), SocketAddress(host="fe80::1", packed=b"\xfe\x80" + bytes(13) + b"\x01", port=1)),
        ("/run/cassandra.sock", None),
        ("", None),
    ],
)
def test_where_a_client_has_reached_us(sockname: object, address: SocketAddress | None) -> None:
    """As the client's own socket says it; a unix socket has no address."""

    class Transport:
        def get_extra_info(self, name: str) -> object:
            return {"sockname": sockname}[name]

    channel = Channel(Side.CLIENT)
    transport: Any = Transport()
    channel._transport = transport
    assert channel.own_address() == address
