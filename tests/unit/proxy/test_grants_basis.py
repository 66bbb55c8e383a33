"""Grants rest on the policy and on the database's row: what changes there makes logins ask again."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.proxy.test_grants import World, until_asked
from tollbridge.client import RpcFailed
from tollbridge.reasons import Reason


@pytest.fixture
def world() -> World:
    """A broker that says yes."""
    return World()


async def test_a_new_policy_version_makes_every_login_ask_again(world: World) -> None:
    """Once: the answer stands under the new version."""
    await world.login()
    world.policy = "v2"
    assert (await world.login()).credential_id == "c-2"
    assert (await world.login()).reused


async def test_a_database_that_changed_or_went_makes_its_own_logins_ask_again(world: World) -> None:
    """A grant in hand would lead to the old endpoint, or into a database that is registered no more."""
    await world.login()
    await world.login(database="other")
    world.rows["other"] = "changed"
    assert (await world.login()).reused
    world.broker.always = RpcFailed(Reason.DATABASE_UNKNOWN, "it is gone")
    assert (await world.refusal(database="other")).reason is Reason.DATABASE_UNKNOWN
    assert (await world.login()).reused


async def test_an_answer_to_a_question_of_yesterday_is_not_kept_as_fresh(world: World) -> None:
    """The policy changed while the question was under way: later logins ask their own, and its answer counts."""
    world.broker.gate.clear()
    async with asyncio.TaskGroup() as group:
        early = group.create_task(world.login())
        await until_asked(world.broker, 1)
        world.policy = "v2"
        late = group.create_task(world.login())
        await until_asked(world.broker, 2)
        world.broker.gate.set()
    assert (early.result().credential_id, late.result().credential_id) == ("c-1", "c-2")
    assert (await world.login()).credential_id == "c-2"
