"""Which node is primary, and what each of them says of itself."""

import asyncio
import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId
from bson.int64 import Int64

from . import messages

WIRE_VERSION = 13
"""Of MongoDB 5.0, which DocumentDB 5.0 speaks."""
MAX_DOCUMENT_BYTES = 16_777_216
MAX_WRITE_BATCH = 100_000
SET_NAME = "rs0"


@dataclass(slots=True)
class Cluster:
    """Nodes over one store. The cluster's name leads to whichever is primary when somebody connects."""

    nodes: tuple[str, ...]
    """host:port each, as AWS would name them: nothing here resolves them."""
    primary: int = 0
    _term: int = 1
    _process_id: ObjectId = field(default_factory=ObjectId)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def change_primary(self) -> None:
        """The next node becomes primary."""
        self.primary = (self.primary + 1) % len(self.nodes)
        self._term += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for_change(self, seconds: float) -> None:
        """Until the primary changes, or that long."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def topology_version(self) -> dict[str, Any]:
        """What tells a driver whether it has seen this state."""
        return {"processId": self._process_id, "counter": Int64(self._term)}

    def hello(self, node: int, asked: dict[str, Any], connection_id: int) -> dict[str, Any]:
        """The answer of a node, in the words it was asked in."""
        is_primary = node == self.primary
        compressors = [name for name in asked.get("compression", ()) if name == "zlib"]
        return {
            "isWritablePrimary" if "hello" in asked else "ismaster": is_primary,
            "secondary": not is_primary,
            "helloOk": True,
            "topologyVersion": self.topology_version(),
            "hosts": list(self.nodes),
            "setName": SET_NAME,
            "setVersion": self._term,
            "electionId": ObjectId(f"7fffffff{self._term:016x}"),
            "primary": self.nodes[self.primary],
            "me": self.nodes[node],
            "maxBsonObjectSize": MAX_DOCUMENT_BYTES,
            "maxMessageSizeBytes": messages.MAX_MESSAGE_BYTES,
            "maxWriteBatchSize": MAX_WRITE_BATCH,
            "localTime": dt.datetime.now(dt.UTC),
            "logicalSessionTimeoutMinutes": 30,
            "connectionId": connection_id,
            "minWireVersion": 0,
            "maxWireVersion": WIRE_VERSION,
            "readOnly": False,
            **({"compression": compressors} if compressors else {}),
            **({"saslSupportedMechs": ["MONGODB-AWS"]} if "saslSupportedMechs" in asked else {}),
            "ok": 1.0,
        }
