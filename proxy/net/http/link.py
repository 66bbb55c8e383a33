"""A connection of the HTTP side: a Link whose bytes go to a function, with nothing on the way for what relays need."""

from __future__ import annotations

import ssl
from typing import Final

from proxy.net.transport import RECEIVE_BYTES, RECORD_BYTES, Link

_RECEIVED: Final = memoryview(bytearray(RECEIVE_BYTES))
"""Shared by all: get_buffer, recv and buffer_updated run back to back."""


class HttpLink(Link):
    """As Link, until `serve`; from then on the shortest way from the socket to the sink."""

    __slots__ = ()

    def get_buffer(self, sizehint: int) -> memoryview:
        return super().get_buffer(sizehint) if self._sink is None else _RECEIVED

    def buffer_updated(self, nbytes: int) -> None:  # noqa: C901 - the hot path, in one piece
        sink, tls = self._sink, self._tls
        if sink is None:
            super().buffer_updated(nbytes)
            return
        if self.ended:
            return
        if tls is None:
            sink(bytes(_RECEIVED[:nbytes]))
            return
        incoming = self._incoming
        incoming.write(_RECEIVED[:nbytes])
        read = tls.read
        ended = False
        try:
            while True:
                data = read(RECORD_BYTES)
                if not data:
                    ended = True
                    break
                sink(data)
                if self._sink is not sink:  # closed in the meantime
                    return
                if len(data) < RECORD_BYTES and not incoming.pending:
                    break  # asking once more would cost an exception
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            ended = True
        except ssl.SSLError as error:
            self._break(error)
        if self._outgoing.pending:  # reading can answer: KeyUpdate, no_renegotiation
            self._flush()
        if ended:
            self._end()
