"""Cancel requests: no identity, no answer, only a key that the server itself checks. PURE."""

from __future__ import annotations

from proxy.engines.postgres.upstream import secure
from proxy.engines.postgres.wire import CancelRequest
from proxy.model import Door, Finished, PeerFacts
from proxy.script import UPSTREAM, Script, await_close, connect, locate, recall, send


def forward(request: CancelRequest, door: Door, facts: PeerFacts | None) -> Script[Finished]:
    """Carry a cancel request to where its session runs: the very server if this process knows it, else the database
    that the listener or the server name fixes. Where neither is known it ends here, as unanswered as ever."""
    if (yield from recall(request.key)) is None:
        database = door.fixed_database(facts)
        if database is None:
            return Finished()
        yield from locate(database)
    yield from connect()
    yield from secure()
    yield from send(UPSTREAM, request.encoded())
    yield from await_close(UPSTREAM)
    return Finished()
