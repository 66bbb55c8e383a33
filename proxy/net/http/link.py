"""A connection of the HTTP side: a Link whose bytes go to a function, with nothing on the way for what relays need."""

from __future__ import annotations

from typing import Final

from proxy.net.transport import RECEIVE_BYTES, Link

_RECEIVED: Final = memoryview(bytearray(RECEIVE_BYTES))
"""Shared by all: get_buffer, recv and buffer_updated run back to back."""


class HttpLink(Link):
    """As Link, until `serve`; from then on the shortest way from the socket to the sink."""

    __slots__ = ()

    def get_buffer(self, sizehint: int) -> memoryview:
        return super().get_buffer(sizehint) if self._sink is None else _RECEIVED

    def buffer_updated(self, nbytes: int) -> None:
        sink, tls = self._sink, self._tls
        if sink is None:
            super().buffer_updated(nbytes)
            return
        if self.ended:
            return
        if tls is None:
            sink(bytes(_RECEIVED[:nbytes]))
            return
        self._incoming.write(_RECEIVED[:nbytes])
        data, _, end = self._records()
        if data:
            sink(data)
            if self._sink is not sink:  # closed in the meantime
                return
        if self._outgoing.pending:  # reading can answer: KeyUpdate, no_renegotiation
            self._flush()
        if end is not None:
            self._end_of_records(end)
