"""AUTH and HELLO as clients say them. What they bring as a password is never looked at. PURE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.engines.redis.refusals import NO_SUCH_LOGIN, OK

VERSIONS: Final = (b"2", b"3")


class HelloError(Exception):
    """A HELLO that makes no sense, with the server's words for it."""

    def __init__(self, line: bytes) -> None:
        super().__init__()
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """HELLO [version [AUTH user password] [SETNAME name]]."""

    version: bytes | None
    user: bytes | None
    name: bytes | None

    def without_login(self) -> list[bytes]:
        """Its arguments, AUTH left out."""
        return [b"HELLO", *([self.version] if self.version else []), *self._name()]

    def with_login(self, user: bytes, password: bytes) -> list[bytes]:
        """Its arguments, with another AUTH."""
        return [b"HELLO", self.version or b"2", b"AUTH", user, password, *self._name()]

    def _name(self) -> list[bytes]:
        return [b"SETNAME", self.name] if self.name is not None else []


def parse_hello(arguments: Sequence[bytes]) -> Hello:
    """Raises HelloError."""
    version = arguments[1] if len(arguments) > 1 else None
    if version is not None and version not in VERSIONS:
        raise HelloError(b"-NOPROTO unsupported protocol version\r\n")
    user = name = None
    at = 2
    while at < len(arguments):
        option, left = arguments[at].lower(), len(arguments) - at - 1
        if option == b"auth" and left >= 2:
            user = arguments[at + 1]
            at += 3
        elif option == b"setname" and left >= 1:
            name = arguments[at + 1]
            at += 2
        else:
            raise HelloError(b"-ERR syntax error in HELLO\r\n")
    return Hello(version=version, user=user, name=name)


def judge_auth(arguments: Sequence[bytes], *, names: frozenset[bytes], default: bool) -> bytes:
    """What a session hears to AUTH. `names`: its user's. `default`: AUTH without a user means that one."""
    match len(arguments):
        case 2:
            return OK if default else NO_SUCH_LOGIN
        case 3:
            return OK if arguments[1] in names else NO_SUCH_LOGIN
        case _:
            return b"-ERR syntax error\r\n"
