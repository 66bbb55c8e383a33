"""An HTTP client that says exactly what it is told to, over `raw_postgres.RawClient`, which knows sockets alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

from tests.support.raw_postgres import RawClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer, whole."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        """The document."""
        return json.loads(self.body)


class CutShort(Exception):
    """The connection ended in the middle of an answer; what there was of its body."""


class HttpClient(RawClient):
    """One connection."""

    def say(self, data: bytes, *, head_only: bool = False) -> Answer:
        """Send these bytes, and read one answer."""
        self.send(data)
        return self.answer(head_only=head_only)

    def answer(self, *, head_only: bool = False) -> Answer:
        """The next one; 100 Continue is passed over. Raises EOFError when there is none, CutShort when half of one."""
        head = self._until(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, status, *_ = status_line.split(" ")
        assert version in ("HTTP/1.1", "HTTP/1.0"), status_line
        if status == "100":
            return self.answer(head_only=head_only)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert len(headers) == len(lines), "each header once"
        try:
            body = b"" if head_only or status in ("204", "304") else self._body(headers)
        except (EOFError, ConnectionError) as error:
            raise CutShort from error
        return Answer(status=int(status), headers=headers, body=body)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            assert "content-length" not in headers
            body = b""
            while size := int(self._until(b"\r\n"), 16):
                body += self.read(size + 2)[:-2]
            assert self.read(2) == b"\r\n"
            return body
        return self.read(int(headers["content-length"]))

    def _until(self, end: bytes) -> bytes:
        data = b""
        while not data.endswith(end):
            data += self.read(1)
        return data[: -len(end)]

    def __enter__(self) -> Self:
        super().__enter__()
        return self
