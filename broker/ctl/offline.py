"""A configuration as a broker would know it, without one running."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NoReturn

from broker.audit import Counters
from broker.ctl.failure import file_problems, tell_problems
from broker.explain import Known
from broker.issuers import chain_of, make_issuers
from broker.settings import Settings, derive, load
from tollbridge.process.lifecycle import SystemClock


def read(path: Path) -> Settings:
    """The file's settings; ends the command, every problem told, when it cannot be used."""
    with file_problems(path):
        loaded = load(path)
    # What concerns serving alone is check-config's to say.
    tell_problems(path, [w for w in loaded.warnings if w.path not in ("listeners", "aws.region")], "warning")
    return loaded.value


def known(settings: Settings) -> Known:
    """Static databases, rules and links."""
    derived = derive(settings)
    clock = SystemClock()
    issuers = make_issuers(
        now=clock.now,
        monotonic=clock.monotonic,
        jitter=random.random,
        broker_name=settings.aws.session_name,
        counters=Counters(),
        redshift=_NoAws(),
    )
    return Known(
        databases={database.name: database for database in derived.databases},
        policy=derived.policy,
        links=derived.links,
        chain=chain_of(issuers),
    )


class _NoAws:
    """Chains are worked out without a call; one that is made is a bug."""

    async def user_login(self, *_: Any, **__: Any) -> NoReturn:
        """Never called."""
        raise AssertionError("offline")

    role_login = workgroup_login = user_login
