"""The proxy's own part in the conversation: whom a client's signature names, and answers of its own. PURE."""

from __future__ import annotations

import re
from typing import Final

from proxy.http.model import Reply

_CREDENTIAL: Final = re.compile(rb"AWS4-HMAC-SHA256\s+Credential=([^,\s]{1,2048})").match
_AWS_KEY: Final = re.compile(r"A[A-Z]{3}[A-Z0-9]{12,124}", re.ASCII).fullmatch

_PHRASES: Final = {
    100: "Continue", 200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 413: "Content Too Large", 414: "URI Too Long",
    417: "Expectation Failed", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip


def user_of(authorization: bytes) -> str:
    """The user that a client's signature names: its access key id, read from the right, because `role/NAME` holds a
    slash. Empty when there is none, or when it is a key id of AWS's own, which names nobody here."""
    match = _CREDENTIAL(authorization)
    if match is None:
        return ""
    user = match[1].decode("utf-8", "replace").rsplit("/", 4)[0]
    return "" if _AWS_KEY(user) else user


def encode(reply: Reply, *, closing: bool, bodiless: bool = False) -> bytes:
    """An answer of our own as bytes."""
    lines = [
        f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, 'Error')}",
        f"Content-Type: {reply.content_type}",
        f"Content-Length: {len(reply.body)}",
        *(f"{name}: {value}" for name, value in reply.headers),
    ]
    if closing:
        lines.append("Connection: close")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if bodiless else head + reply.body
