"""A MongoDB client that says exactly what it is told to, over `raw_postgres.RawClient`, which knows sockets alone."""

from __future__ import annotations

from typing import Any

from tests.support import mongo
from tests.support.raw_postgres import RawClient


class MongoClient(RawClient):
    """One connection."""

    def whole(self) -> bytes:
        """The next message, whole. Raises EOFError when closed before."""
        head = self.read(4)
        length = int.from_bytes(head, "little")
        assert 16 < length < 1 << 26, length
        return head + self.read(length - 4)

    def request(self, name: str, request_id: int = 7, database: str = "admin", **more: Any) -> dict[str, Any]:
        """A command and its answer."""
        self.send(mongo.op_msg({name: 1, **more, "$db": database}, request_id))
        answer = self.whole()
        assert mongo.response_to(answer) == request_id
        return mongo.read(answer)


def attempt(port: int, *, seconds: float = 30.0) -> tuple[int, str] | None:
    """Say hello in plaintext, ask something, and leave: None when let in, else the error."""
    with MongoClient(port, seconds=seconds) as client:
        answer = client.request("hello")
        if answer["ok"]:
            assert client.request("count", 8, "app", query={})["ok"] in (0.0, 1.0)
            return None
        return int(answer["code"]), str(answer["errmsg"])
