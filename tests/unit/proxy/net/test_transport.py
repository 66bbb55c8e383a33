"""Corners of one link that whole connections do not reach."""

from __future__ import annotations

import asyncio
import resource

import pytest

from proxy.errors import LocalFault, PeerClosed, PeerViolation, Side
from proxy.inbox import INBOX_LIMIT
from proxy.net.channel import Channel
from proxy.net.transport import RECORD_BYTES, TAIL_BYTES, Link
from tests.support.ca import TestCa
from tests.support.peer import Peer, serving
from tests.support.stage import until


async def linked(port: int) -> Link:
    """A link as upstream."""
    _, link = await asyncio.get_running_loop().create_connection(lambda: Link(Side.UPSTREAM), "127.0.0.1", port)
    return link


class Watching:
    """An owner that counts."""

    def __init__(self) -> None:
        self.eofs = 0
        self.losses = 0

    def on_eof(self, link: Channel) -> None:
        self.eofs += 1

    def on_lost(self, link: Channel) -> None:
        self.losses += 1


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
async def test_the_inbox_is_bounded_and_nothing_is_lost(ca: TestCa, encrypted: bool) -> None:
    sent = 0
    context = ca.server_context("db.example")

    async def flood(peer: Peer) -> None:
        nonlocal sent
        if encrypted:
            await peer.tls(context, server=True)
        for number in range(400):
            await peer.send(bytes([number % 251]) * 65536)
            sent += 1
        await peer.finish(close_notify=False)

    async with serving(flood) as server:
        link = await linked(server.port)
        if encrypted:
            await link.start_tls(ca.client_context(), "db.example")
        await link.fill(1)
        await asyncio.sleep(0.3)
        assert len(link.inbox) <= INBOX_LIMIT + 65536
        assert sent < 400
        for number in range(400):
            await link.fill(65536)
            assert link.take(65536) == bytes([number % 251]) * 65536
        with pytest.raises(PeerClosed):
            await link.fill(1)
        link.close()


async def test_garbage_inside_tls_is_a_violation(ca: TestCa) -> None:
    context = ca.server_context("db.example")

    async def garbage(peer: Peer) -> None:
        await peer.tls(context, server=True)
        await peer.send(b"fine")
        await peer.send_raw(b"this is no TLS record")
        await peer.to_end()

    async with serving(garbage) as server:
        link = await linked(server.port)
        await link.start_tls(ca.client_context(), "db.example")
        await link.fill(4)
        with pytest.raises(PeerViolation, match="broke"):
            await link.fill(5)
        link.write(b"dropped")
        link.close()


async def test_bytes_after_close_notify_are_dropped_and_cost_nothing(ca: TestCa) -> None:
    context = ca.server_context("db.example")

    async def never_silent(peer: Peer) -> None:
        await peer.tls(context, server=True)
        await peer.send(b"end")
        await peer.finish(fin=False)
        for _ in range(800):
            await peer.send_raw(b"\x17" * 65536)

    async with serving(never_silent) as server:
        link = await linked(server.port)
        await link.start_tls(ca.client_context(), "db.example")
        await link.fill(3)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(PeerClosed):
            await link.fill(4)
        await asyncio.sleep(0.3)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000  # KB
        link.close()


async def test_a_peer_that_reads_nothing_is_dropped_after_the_linger(ca: TestCa) -> None:
    async def deaf(peer: Peer) -> None:
        await asyncio.Event().wait()

    async with serving(deaf) as server:
        link = await linked(server.port)
        link.write(b"." * 20_000_000)
        link.close(0.1)
        link.close(0.1)
        await until(lambda: link.lost)
        link.write(b"too late")
        link.write_eof()
        link.close()
        link.abort()


@pytest.mark.parametrize("how", ["closes", "resets", "is abandoned"])
async def test_a_handshake_that_never_ends(ca: TestCa, how: str) -> None:
    async def half(peer: Peer) -> None:
        await peer.receive()
        if how == "is abandoned":
            await peer.to_end()
        peer.close(reset=how == "resets")

    async with serving(half) as server:
        link = await linked(server.port)
        with pytest.raises(TimeoutError if how == "is abandoned" else PeerClosed):
            async with asyncio.timeout(0.2 if how == "is abandoned" else 60):
                await link.start_tls(ca.client_context(), "db.example")
        link.write(b"must not be sent in the clear")
        link.close(0.1)
        await until(lambda: link.lost)


async def test_tls_is_not_started_twice(ca: TestCa) -> None:
    context = ca.server_context("db.example")

    async def server_side(peer: Peer) -> None:
        await peer.tls(context, server=True)
        await peer.to_end()

    async with serving(server_side) as server:
        link = await linked(server.port)
        await link.start_tls(ca.client_context(), "db.example")
        with pytest.raises(LocalFault, match="twice"):
            await link.start_tls(ca.client_context(), "db.example")
        link.close()


async def test_push_needs_two_living_links(ca: TestCa) -> None:
    async def gone(peer: Peer) -> None:
        peer.close(reset=True)

    async with serving(gone) as server:
        one, other = await linked(server.port), await linked(server.port)
        await until(lambda: one.lost and other.lost)
        with pytest.raises(LocalFault):
            one.push_to(other, Watching())


async def test_pushed_bytes_leave_their_tail(ca: TestCa) -> None:
    got = bytearray()

    async def talk(peer: Peer) -> None:
        for part in (b"0123456789abcdef" * 10 + b"-end", b"of", b"answer"):
            await peer.send(part)
            await asyncio.sleep(0.02)
        await peer.to_end()

    async def listen(peer: Peer) -> None:
        while data := await peer.receive():
            got.extend(data)

    async with serving(talk) as talker, serving(listen) as listener:
        one, other = await linked(talker.port), await linked(listener.port)
        owner = Watching()
        one.push_to(other, owner)
        await until(lambda: bytes(got).endswith(b"-endofanswer"))
        assert one.tail == bytes(got)[-TAIL_BYTES:]
        assert one.relayed == len(got) > TAIL_BYTES
        one.close()
        other.close()


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
async def test_who_serves_a_side_gets_its_bytes_until_it_is_closed(ca: TestCa, encrypted: bool) -> None:
    """Also when that happens while it is told some, and a guard that has not heard of it taps it again."""
    context = ca.server_context("db.example")
    go_on = asyncio.Event()

    async def talk(peer: Peer) -> None:
        if encrypted:
            await peer.tls(context, server=True)
        await peer.send(b"one")
        await go_on.wait()
        await peer.send(b"two")
        await peer.to_end()
        await peer.send(b"three")
        await peer.finish()

    async with serving(talk) as server:
        link = await linked(server.port)
        if encrypted:
            await link.start_tls(ca.client_context(), "db.example")
        owner, got = Watching(), bytearray()

        def take(data: bytes) -> None:
            got.extend(data)
            if b"two" in got:
                link.close()
                link.tap(got.extend)

        await link.fill(3)
        link.serve(owner, take)
        assert got == b"one"
        go_on.set()
        await until(lambda: link.lost)
        assert got == b"onetwo"
        assert (owner.eofs, owner.losses) == (0, 0)


class Gathering:
    """What was written to it, write by write."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.pieces.append(data)


async def test_records_that_come_together_go_on_in_few_writes(ca: TestCa) -> None:
    """A write is a system call, and wakes whoever reads: it costs more than the decryption of a record."""
    context = ca.server_context("db.example")
    sent = 4 * 1024 * 1024

    async def talk(peer: Peer) -> None:
        await peer.tls(context, server=True)
        await peer.send(bytes(range(256)) * (sent // 256))
        await peer.to_end()

    async with serving(talk) as talker, serving(just_reads) as reader:
        one, other = await linked(talker.port), await linked(reader.port)
        await one.start_tls(ca.client_context(), "db.example")
        writes, transport = Gathering(), other._transport
        other._transport = writes  # type: ignore[assignment]
        one.push_to(other, Watching())
        await until(lambda: one.relayed == sent)
        assert b"".join(writes.pieces) == bytes(range(256)) * (sent // 256)
        assert len(writes.pieces) < sent / RECORD_BYTES / 2
        other._transport = transport
        one.abort()
        other.abort()


@pytest.mark.parametrize("size", [4, 50_000], ids=["in one record", "in several"])
async def test_what_came_before_a_broken_record_still_goes_on(ca: TestCa, size: int) -> None:
    context = ca.server_context("db.example")
    got = bytearray()

    async def talk(peer: Peer) -> None:
        await peer.tls(context, server=True)
        await peer.send(b"g" * size)
        await peer.send_raw(b"this is no TLS record")
        await peer.to_end()

    async def listen(peer: Peer) -> None:
        while data := await peer.receive():
            got.extend(data)

    async with serving(talk) as talker, serving(listen) as listener:
        one, other = await linked(talker.port), await linked(listener.port)
        await one.start_tls(ca.client_context(), "db.example")
        owner = Watching()
        one.push_to(other, owner)
        await until(lambda: owner.losses == 1)
        assert isinstance(one.failure, PeerViolation)
        other.close()
        await until(lambda: other.lost)
        assert bytes(got) == b"g" * size


async def just_reads(peer: Peer) -> None:
    """Until the end."""
    await peer.to_end()
