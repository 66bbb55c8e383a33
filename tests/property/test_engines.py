"""What holds for every engine, whatever arrives and however it is cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.engine import Engine
from proxy.engines import ENGINES
from proxy.errors import PeerViolation, Refused
from proxy.inbox import INBOX_LIMIT
from proxy.model import Established, Finished
from proxy.script import CLIENT, UPSTREAM
from tests.property.logins import LOGINS
from tests.property.rehearsal import Login, Result, Turn, bytewise, rehearse

CASES = [
    pytest.param(ENGINES[name], login, id=f"{name}: {login.name}")
    for name, logins in LOGINS.items()
    for login in logins
]
every_login = pytest.mark.parametrize(("engine", "login"), CASES)
sides = st.sampled_from([CLIENT, UPSTREAM])


def test_every_engine_is_here() -> None:
    """A new engine adds its logins to tests/property/logins.py."""
    assert set(LOGINS) == set(ENGINES)
    assert all(LOGINS.values())


def ended_as_it_may(result: Result) -> None:
    """Established, Finished, Refused or PeerViolation; never another exception, never unbounded wishes or words."""
    assert not result.running
    if result.error is not None:
        assert isinstance(result.error, Refused | PeerViolation), repr(result.error)
    else:
        assert isinstance(result.outcome, Established | Finished)
    assert result.largest_wish <= INBOX_LIMIT
    assert all(len(data) <= INBOX_LIMIT for data in result.written.values())


@every_login
def test_a_login_ends_well_however_its_bytes_are_cut(engine: Engine, login: Login) -> None:
    """Whole turns and single bytes give the same outcome, the same words to both sides and the same leftovers."""
    turns = login.turns + login.after
    in_one = rehearse(engine, login, turns, hang_up=True)
    assert in_one.error is None
    ended_as_it_may(in_one)
    for side, data in login.after:
        assert in_one.unread[side] == data
    assert rehearse(engine, login, turns, bytewise, hang_up=True).essence == in_one.essence


@every_login
@given(data=st.data())
def test_any_split_gives_the_same_result(engine: Engine, login: Login, data: st.DataObject) -> None:
    """Segments of any size."""

    def anyhow(turn: bytes) -> list[bytes]:
        cuts = sorted(data.draw(st.sets(st.integers(0, len(turn)), max_size=8)) | {0, len(turn)})
        return [turn[a:b] for a, b in itertools.pairwise(cuts)]

    whole = rehearse(engine, login, login.turns, hang_up=True)
    assert rehearse(engine, login, login.turns, anyhow, hang_up=True).essence == whole.essence


@every_login
def test_an_end_at_every_offset(engine: Engine, login: Login) -> None:
    """A side that closes after any byte of its turn ends the login, cleanly."""
    for at, (side, said) in enumerate(login.turns):
        for offset in range(len(said)):
            turns: list[Turn] = [*login.turns[:at], (side, said[:offset])]
            result = rehearse(engine, login, turns, hang_up=True)
            ended_as_it_may(result)
            assert result.error is not None


@every_login
@given(data=st.data())
def test_bytes_that_nobody_expects(engine: Engine, login: Login, data: st.DataObject) -> None:
    """After any number of good turns, either side says anything."""
    good = data.draw(st.integers(0, len(login.turns)))
    noise = data.draw(st.lists(st.tuples(sides, st.binary(max_size=300)), max_size=4))
    ended_as_it_may(rehearse(engine, login, [*login.turns[:good], *noise], hang_up=True))


@every_login
@given(data=st.data())
def test_a_login_with_one_part_changed(engine: Engine, login: Login, data: st.DataObject) -> None:
    """A few bytes replaced, put in, left out, or a whole turn said twice or by the wrong side."""
    turns = list(login.turns)
    at = data.draw(st.integers(0, len(turns) - 1))
    side, said = turns[at]
    start = data.draw(st.integers(0, len(said)))
    stop = data.draw(st.integers(start, min(len(said), start + 6)))
    changed = said[:start] + data.draw(st.binary(max_size=6)) + said[stop:]
    turns[at] = (data.draw(st.sampled_from([side, side, side, UPSTREAM, CLIENT])), changed)
    if data.draw(st.booleans()):
        turns.insert(data.draw(st.integers(0, len(turns))), (side, said))
    ended_as_it_may(rehearse(engine, login, turns, hang_up=True))


@every_login
def test_a_flood_is_never_taken_in(engine: Engine, login: Login) -> None:
    """A megabyte behind the last good byte stays where the transport can stop reading it."""
    for side in (CLIENT, UPSTREAM):
        for good in range(len(login.turns) + 1):
            result = rehearse(engine, login, [*login.turns[:good], (side, b"\xff" * 2**20)], hang_up=True)
            ended_as_it_may(result)
