"""What is kept about servers: one login finds out, the others wait, and nothing grows without bound."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import pytest

from proxy.errors import LocalFault, Refused
from proxy.model import Location
from proxy.net import facts as subject
from proxy.net.facts import EndpointFacts, Inquiry
from proxy.net.sessions import Address, Place
from proxy.script import FACTS_LIMIT
from tollbridge.model import Endpoint, TlsFacts
from tollbridge.reasons import Reason

HERE = Endpoint(host="db.example", port=3306)
LOCATION = Location(database="db", endpoint=HERE, tls=TlsFacts())
PLACE = Place(location=LOCATION, address=Address(host="127.0.0.1", port=3306))


async def heard(facts: EndpointFacts) -> bytes | Refused | None:
    """What one that asks is told."""
    try:
        return await facts.find_out(HERE)
    except Refused as refusal:
        return refusal


async def test_one_finds_out_and_the_others_wait_for_it() -> None:
    facts = EndpointFacts()
    assert await facts.find_out(HERE) is None
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(heard(facts)) for _ in range(20)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        facts.keep(HERE, b"8.0")
    assert [task.result() for task in waiting] == [b"8.0"] * 20
    assert await facts.find_out(HERE) == b"8.0"


async def tries_and_is_refused(inquiry: Inquiry) -> None:
    """A login that cannot reach the server."""
    with inquiry:
        assert await inquiry.recall(LOCATION, find_out=True) is None
        await asyncio.sleep(0)
        raise Refused(Reason.UPSTREAM_UNREACHABLE, "nobody there")


async def test_a_refusal_is_shared_and_then_somebody_tries_again() -> None:
    facts = EndpointFacts()
    async with asyncio.TaskGroup() as group:
        asking = tries_and_is_refused(Inquiry(facts))
        first = group.create_task(_ends(asking))
        second = group.create_task(heard(facts))
    told = second.result()
    assert isinstance(told, Refused)
    assert told.message == "nobody there"
    assert told is not first.result()  # each has a traceback of its own
    assert await facts.find_out(HERE) is None


async def _ends(login: Coroutine[object, object, None]) -> Refused | None:
    try:
        await login
    except Refused as refusal:
        return refusal
    return None


async def test_a_client_that_left_passes_the_task_on() -> None:
    facts = EndpointFacts()
    inquiry = Inquiry(facts)
    async with asyncio.TaskGroup() as group:
        with inquiry:
            assert await inquiry.recall(LOCATION, find_out=True) is None
            second, third = group.create_task(heard(facts)), group.create_task(heard(facts))
            await asyncio.sleep(0)
        assert await second is None
        assert not third.done()
        facts.keep(HERE, b"8.0")
    assert third.result() == b"8.0"


async def test_facts_about_another_server_do_not_end_the_wait_for_this_one() -> None:
    facts = EndpointFacts()
    elsewhere = Location(database="other", endpoint=Endpoint(host="other.example", port=3306), tls=TlsFacts())
    inquiry = Inquiry(facts)
    with inquiry:
        assert await inquiry.recall(LOCATION, find_out=True) is None
        inquiry.keep(Place(location=elsewhere, address=PLACE.address), b"8.0")
    async with asyncio.timeout(60):
        assert await facts.find_out(HERE) is None, "the next one is to find out"


async def test_who_does_not_want_to_find_out_is_never_kept_waiting() -> None:
    facts = EndpointFacts()
    assert await facts.find_out(HERE) is None
    assert await Inquiry(facts).recall(LOCATION, find_out=False) is None


async def test_newer_facts_replace_older_ones() -> None:
    facts = EndpointFacts()
    inquiry = Inquiry(facts)
    inquiry.keep(PLACE, b"8.0")
    inquiry.keep(PLACE, b"8.4")
    assert facts.get(HERE) == b"8.4"


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "MAX_ENDPOINTS", 3)
    facts = EndpointFacts()
    with pytest.raises(LocalFault):
        facts.keep(HERE, b"x" * (FACTS_LIMIT + 1))
    for port in range(1, 6):
        facts.keep(Endpoint(host="db.example", port=port), b"x")
    assert facts.get(Endpoint(host="db.example", port=1)) is None
    assert facts.get(Endpoint(host="db.example", port=5)) == b"x"


async def test_a_script_must_say_of_what() -> None:
    with pytest.raises(LocalFault):
        await Inquiry(EndpointFacts()).recall(None, find_out=True)
    with pytest.raises(LocalFault):
        Inquiry(EndpointFacts()).keep(None, b"x")
