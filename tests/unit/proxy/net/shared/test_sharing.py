"""Clients of one workload and user on one connection: who shares, in which order, and how sessions end."""

from __future__ import annotations

from pathlib import Path

from tests.support.ca import TestCa
from tests.support.peer import Peer
from tests.support.stage import proxy_stage, until
from tests.support.toy_shared import SharingToy, answer


async def ask(client: Peer, *lines: bytes) -> None:
    """Send requests in one go, and take exactly their answers."""
    await client.send(b"".join(line + b"\n" for line in lines))
    wanted = b"".join(b"=" + line + b"\n" for line in lines)
    assert await client.exactly(len(wanted)) == wanted


async def test_clients_of_one_user_share_one_connection_and_get_their_own_answers(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        one, two = await stage.login(), await stage.login()
        await ask(one, b"a", b"b")
        await ask(two, b"c")
        await ask(one, b"d")
        assert stage.database.accepted == stage.trunks.connections == 1
        assert stage.trunks.clients == 2
        await one.finish()
        assert await one.to_end() == b""
        await until(lambda: stage.log.ends)
        start, end = stage.log.starts[0], stage.log.ends[0]
        assert start.facts.upstream == f"127.0.0.1:{stage.database.port}"
        assert (end.ended, end.reason, end.bytes_to_upstream, end.bytes_to_client) == ("client", None, 6, 9)
        assert stage.counters.logins == {"ok": 2}
        assert stage.counters.sessions_open == stage.trunks.clients == 1
        await ask(two, b"still here")


async def test_another_user_is_never_on_the_same_connection(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        for user in (b"app", b"bob", b"app"):
            await ask(await stage.login(user), b"hello from " + user)
        assert stage.trunks.connections == 2


async def test_what_comes_with_the_login_is_answered(ca: TestCa, tmp_path: Path) -> None:
    async with proxy_stage(ca, tmp_path, engine=SharingToy(), handler=answer) as stage:
        client = await stage.dial()
        await client.send(b"\x03appone\ntwo\n?\nthree\n.\n")
        assert await client.to_end() == b"OK\n=one\n=two\n~?\n=three\n"
