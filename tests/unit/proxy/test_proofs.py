"""Proofs: what a server asks during a login goes to the broker, each time."""

from __future__ import annotations

import pytest

from proxy.errors import Refused
from tests.unit.proxy.test_grants import APP, World
from tollbridge.client import RpcFailed
from tollbridge.model import StsChallenge
from tollbridge.reasons import Reason


async def test_a_proof_is_asked_for_every_time_and_a_refusal_is_the_brokers_own() -> None:
    """Each is good for one login, so none is kept; and no earlier answer of another kind stands for it."""
    world = World()
    challenge = StsChallenge(nonce=bytes(64), host="sts.us-west-1.amazonaws.com")
    ask = {**APP, "challenge": challenge}
    first = await world.cache.sign_challenge(**ask)  # type: ignore[arg-type]
    await world.cache.sign_challenge(**ask)  # type: ignore[arg-type]
    assert first.authorization.reveal().endswith("00" * 64)
    assert [question["host"] for question in world.broker.asked] == [challenge.host] * 2
    world.broker.always = RpcFailed(Reason.DENIED_BY_RULE, "rule no says no")
    with pytest.raises(Refused, match="rule no says no"):
        await world.cache.sign_challenge(**ask)  # type: ignore[arg-type]
