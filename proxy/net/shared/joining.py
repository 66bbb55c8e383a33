"""One login's part in shared connections: which one it may join, and how one is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final, Protocol

from proxy.errors import LocalFault, Refused
from proxy.model import Location, SealedGrant
from proxy.multiplex import SharedLogin
from proxy.net.services import Services
from proxy.net.sessions import Place
from proxy.net.shared.trunk import Trunk
from proxy.net.shared.trunks import LoggedIn, SharedKey
from proxy.net.transport import Link
from proxy.net.vault import same_server
from proxy.script import RequestGrant, Script, Share, request_grant, share
from tollbridge.reasons import Reason

SPARE_SECONDS: Final = 1.0
"""More than the login has that waits for it: whose time is over says so itself, and the others try again."""


class Maker(Protocol):
    """A driver without a client, whose scripts are granted one thing alone."""

    upstream: Link | None
    place: Place | None

    @property
    def proven(self) -> Location | None:
        """What `upstream` is connected to, on verified TLS."""
        ...

    @property
    def asked(self) -> RequestGrant | None:
        """The last grant that was asked for."""
        ...

    async def run(self, script: Script[SharedLogin], seconds: float) -> SharedLogin: ...

    def release(self) -> None: ...


class Joining:
    """Answers Share for one driver."""

    def __init__(self, services: Services, new_maker: Callable[[SharedKey], Maker]) -> None:
        self._services = services
        self._new_maker = new_maker
        self._last: tuple[RequestGrant, Share] | None = None
        self.longest: Callable[[str], float | None] = lambda database: None
        """A database's name -> seconds that sessions may last (`max_session_seconds`)."""
        self.trunk: Trunk | None = None
        """What was joined last."""

    async def join(self, effect: Share, asked: RequestGrant | None, grant: SealedGrant | None, seconds: float) -> Trunk:
        """As the effect Share says. `asked` and `grant`: what this login has asked for, and was given, last."""
        if asked is None or grant is None or effect.grant is not grant:
            raise LocalFault("a script shares by a grant that this login was not given")
        self._last = asked, effect
        key = SharedKey(
            workload=asked.workload,
            database=asked.database,
            db_user=asked.db_user,
            db_name=asked.db_name,
            location=grant.location,
            kind=effect.kind,
            longest_seconds=self.longest(asked.database),
        )
        self.trunk = await self._services.trunks.join(key, lambda: self._make(key, effect.log_in, seconds))
        return self.trunk

    def again(self) -> Script[SharedLogin]:
        """The same once more, permission included."""
        if self._last is None:
            raise LocalFault("a client joins a shared connection again and had none")
        asked, effect = self._last
        grant = yield from request_grant(
            workload=asked.workload, database=asked.database, db_user=asked.db_user, db_name=asked.db_name
        )
        return (yield from share(grant, kind=effect.kind, log_in=effect.log_in))

    async def _make(self, key: SharedKey, log_in: Callable[[], Script[SharedLogin]], seconds: float) -> LoggedIn:
        maker = self._new_maker(key)
        try:
            login = await maker.run(log_in(), seconds + SPARE_SECONDS)
            return self._made(key, maker, login)
        except BaseException:
            link = maker.upstream
            if link is None or link.lost:
                maker.release()
            else:
                link.when_closed(maker.release)
                link.close()
            raise

    def _made(self, key: SharedKey, maker: Maker, login: SharedLogin) -> LoggedIn:
        if maker.upstream is None or maker.place is None or maker.asked is None:
            raise LocalFault("a connection to share was made without a grant, or leads nowhere")
        if maker.proven is None:
            raise LocalFault("a connection to share is not on verified TLS")
        if not same_server(maker.proven, key.location):
            raise Refused(
                Reason.UPSTREAM_TLS_UNVERIFIED,
                f"database {key.database!r} was registered at another endpoint, or with other TLS facts, while this "
                "login was under way: connect again",
            )
        clock, gate = self._services.clock, self._services.gate
        if key.longest_seconds is not None:
            latest = clock.now() + timedelta(seconds=key.longest_seconds)
            login = replace(login, retire_at=min(login.retire_at, latest))
        return LoggedIn(
            link=maker.upstream,
            login=login,
            place=maker.place,
            clock=clock,
            wanted=partial(gate.wanted, key.location.database),
            release=maker.release,
        )
