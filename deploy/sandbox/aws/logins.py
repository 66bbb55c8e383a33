"""The check a database of AWS makes of a token, asked over a unix socket by a module inside each server.

Protocol, one connection per login: ``service NUL user NUL token`` and end of data; the answer is ``1`` or ``0``.
For Keyspaces the nonce stands in the user's place, and ``1`` is followed by who it is and what it may do.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from . import emulator, keyspaces, tokens
from .tokens import Target

MAX_REQUEST_BYTES = 70_000
"""PostgreSQL takes no password above 65,535 bytes."""
REQUEST_TIMEOUT_SECONDS = 2.0
LOG_LENGTH = 20_000

_ACCESS_KEY_ID = re.compile(r"X-Amz-Credential=([A-Za-z0-9]{1,128})(?:%2F|/)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One judged login. Never the token."""

    database: str | None
    db_user: str
    ok: bool
    why: str
    access_key_id: str | None
    time: float


class LoginJudge:
    """Answers the servers' modules and remembers its latest verdicts."""

    def __init__(self, targets: Mapping[str, Target]) -> None:
        self._targets = targets
        self._log: deque[Login] = deque(maxlen=LOG_LENGTH)

    def logins(self) -> list[dict[str, object]]:
        return [asdict(login) for login in self._log]

    def forget(self) -> None:
        self._log.clear()

    def note(self, login: Login) -> None:
        """One that was judged elsewhere."""
        self._log.append(login)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection. Whatever goes wrong, the answer is no."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                request = await _read_all(reader)
                service, user, token = request.decode("utf-8").split("\0", 2)
                writer.write(self._judge(service, user, token).encode())
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            pass
        finally:
            writer.close()

    def _judge(self, service: str, user: str, token: str) -> str:
        target = self._targets.get(service)
        if target is not None and target.product == "keyspaces":
            return self._judge_proof(target, user, token)
        found = _ACCESS_KEY_ID.search(token)
        key = found[1] if found else None
        why = "UnknownService" if target is None else _refusal(target, user, token, key)
        self._remember(target, user, why, key)
        return "1" if why is None else "0"

    def _judge_proof(self, target: Target, nonce: str, proof: str) -> str:
        key = keyspaces.access_key_id(proof)
        why = (_dead(key) if key else None) or keyspaces.refusal(target, nonce, proof)
        who = keyspaces.identity(target, key) if why is None and key else ""
        self._remember(target, who.partition(" ")[0], why, key)
        return f"1 {who}" if who else "0"

    def _remember(self, target: Target | None, user: str, why: str | None, key: str | None) -> None:
        self._log.append(
            Login(
                database=target.database if target else None,
                db_user=user,
                ok=why is None,
                why=why or "Allow",
                access_key_id=key,
                time=time.time(),
            )
        )


def _dead(access_key_id: str) -> str | None:
    """A token dies with the session that signed it, however long its own X-Amz-Expires would let it live."""
    if emulator.session_expired(access_key_id):
        return "SessionExpired"
    return "RoleGone" if emulator.bury_dead_session(access_key_id) else None


def _refusal(target: Target, user: str, token: str, access_key_id: str | None) -> str | None:
    dead = _dead(access_key_id) if access_key_id is not None else None
    return dead or tokens.refusal(target, user, token)


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    request = bytearray()
    while chunk := await reader.read(16_384):
        request += chunk
        if len(request) > MAX_REQUEST_BYTES:
            raise ValueError("a login longer than any token")
    return bytes(request)
