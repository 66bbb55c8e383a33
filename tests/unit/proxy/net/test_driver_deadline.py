"""A login that is told to end at the very moment its deadline strikes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from proxy.errors import Refused
from proxy.model import SealedGrant
from proxy.script import Script
from tests.support.ca import TestCa
from tests.support.stage import HOST
from tests.support.toy import ToyGrants
from tests.unit.proxy.net.test_driver import ASK, driver, services
from tollbridge.model import Credential, Endpoint, TlsFacts
from tollbridge.reasons import Reason


async def test_interrupting_while_the_deadline_strikes_does_nothing(ca: TestCa) -> None:
    class Silent(ToyGrants):
        async def request(
            self, *, workload: str, database: str, db_user: str, db_name: str, rejected: str
        ) -> tuple[SealedGrant, Credential]:
            await asyncio.Event().wait()
            raise AssertionError

    def script() -> Script[object]:
        return (yield ASK)

    subject = driver(replace(services(ca, 1), grants=Silent(Endpoint(host=HOST, port=5432), TlsFacts())))

    async def login() -> None:
        with pytest.raises(Refused, match="did not finish"):
            await subject.run(script(), 0.05)

    async with asyncio.TaskGroup() as group:
        group.create_task(login())
        while subject._deadline is None or not subject._deadline.expired():  # noqa: ASYNC110 - this very moment
            await asyncio.sleep(0)
        subject.interrupt(Refused(Reason.DRAINING, "at the same moment"))
