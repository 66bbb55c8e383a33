"""Who may log in now, decided from numbers: rate, burst, connections, queue, and when to come back."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admission import RETRY_SECONDS_LIMIT, WAITING_LIMIT, LoginLimits, Ticket, Turnstile
from proxy.errors import Refused
from tollbridge.reasons import Reason


def turnstile(**limits: float) -> Turnstile:
    return Turnstile("orders", LoginLimits(**limits))  # type: ignore[arg-type]


def comes(gate: Turnstile, now: float = 0.0, wait_seconds: float = 2.0) -> Ticket:
    return gate.arrive(now, wait_seconds=wait_seconds, alive=lambda: True)


def refused(gate: Turnstile, now: float = 0.0, wait_seconds: float = 2.0) -> Refused:
    with pytest.raises(Refused) as caught:
        comes(gate, now, wait_seconds)
    return caught.value


def told_seconds(refusal: Refused) -> int:
    found = re.search(r"retry in (\d+) s", refusal.message)
    assert found is not None
    return int(found[1])


def test_without_limits_everybody_is_in_and_counted() -> None:
    gate = turnstile()
    tickets = [comes(gate) for _ in range(5000)]
    assert gate.open == 5000
    for ticket in tickets:
        gate.leave(ticket)
    assert gate.idle


def test_a_place_is_given_back_once_however_often_it_is_said() -> None:
    gate = turnstile(max_connections=2)
    first, _ = comes(gate), comes(gate)
    for _ in range(3):
        gate.leave(first)
        gate.abandon(first)
    assert gate.open == 1


def test_one_seconds_worth_comes_at_once_and_the_rest_at_the_rate() -> None:
    gate = turnstile(logins_per_second=10)
    tickets = [comes(gate, now=5.0) for _ in range(15)]
    assert [ticket.inside for ticket in tickets] == [True] * 10 + [False] * 5
    assert gate.next_at(5.0) == pytest.approx(5.1)
    assert gate.admit(5.05) == []
    assert gate.admit(5.1001) == [tickets[10]]
    assert gate.admit(5.3001) == tickets[11:13]


def test_a_slow_rate_still_lets_one_in() -> None:
    gate = turnstile(logins_per_second=0.5)
    assert comes(gate).inside
    assert told_seconds(refused(gate, wait_seconds=1.0)) in (2, 3, 4)
    assert comes(gate, now=2.001).inside


def test_nobody_overtakes_the_queue() -> None:
    gate = turnstile(logins_per_second=1)
    comes(gate)
    first = comes(gate, wait_seconds=5)
    late = comes(gate, now=1.5, wait_seconds=5)
    assert not late.inside
    assert gate.admit(1.5) == [first]


def test_a_wait_that_cannot_be_enough_is_refused_at_once_and_says_when_to_retry() -> None:
    gate = turnstile(logins_per_second=50)
    for _ in range(50 + 100):
        comes(gate)
    refusal = refused(gate)
    assert refusal.reason is Reason.LOGIN_RATE_LIMITED
    assert "'orders' takes 50 logins a second" in refusal.message
    assert "retry in 3 s" in refusal.message
    assert gate.waiting == 100


def test_those_turned_away_are_sent_to_different_seconds() -> None:
    gate = turnstile(logins_per_second=50)
    for _ in range(150):
        comes(gate)
    told = [told_seconds(refused(gate)) for _ in range(350)]
    assert told == sorted(told)
    assert told[-1] in (9, 10)
    assert all(told.count(second) <= 51 for second in set(told))


def test_nobody_is_sent_away_for_longer_than_a_minute() -> None:
    gate = turnstile(logins_per_second=1)
    comes(gate)
    told = [told_seconds(refused(gate, wait_seconds=0.0)) for _ in range(1000)]
    assert max(told) == RETRY_SECONDS_LIMIT


def test_a_full_database_lets_the_next_in_when_one_leaves() -> None:
    gate = turnstile(max_connections=1)
    inside = comes(gate)
    waiting = comes(gate)
    assert not waiting.inside
    assert gate.next_at(0.0) is None
    assert gate.admit(100.0) == []
    gate.leave(inside)
    assert gate.admit(100.0) == [waiting]
    assert waiting.inside


def test_the_refusal_of_a_full_database_names_the_limit() -> None:
    gate = turnstile(max_connections=3, wait_seconds=2.0)
    for _ in range(3):
        comes(gate)
    refusal = gate.refusal(0.0)
    assert refusal.reason is Reason.TOO_MANY_CONNECTIONS
    assert "has 3 connections" in refusal.message
    assert "`max_connections`" in refusal.message
    assert "retry in 3 s" in refusal.message
    assert gate.counters.refused == {Reason.TOO_MANY_CONNECTIONS: 1}


def test_the_queue_is_bounded_where_no_rate_bounds_it() -> None:
    gate = turnstile(max_connections=1)
    comes(gate)
    for _ in range(WAITING_LIMIT):
        comes(gate)
    assert refused(gate).reason is Reason.TOO_MANY_CONNECTIONS
    assert gate.waiting == WAITING_LIMIT


def test_a_login_that_has_left_costs_neither_a_place_nor_a_turn() -> None:
    gate = turnstile(logins_per_second=1)
    comes(gate)
    gone = gate.arrive(0.0, wait_seconds=5.0, alive=lambda: False)
    there = comes(gate, wait_seconds=5.0)
    assert gate.admit(1.001) == [gone, there]
    assert (gone.inside, there.inside) == (False, True)


def test_a_queue_of_clients_that_left_is_no_reason_to_refuse() -> None:
    gate = turnstile(logins_per_second=1)
    comes(gate)
    for _ in range(2):
        gate.arrive(0.0, wait_seconds=2.0, alive=lambda: False)
    assert not comes(gate).inside
    assert gate.waiting == 1


def test_one_that_gives_up_makes_room_in_the_queue() -> None:
    gate = turnstile(logins_per_second=1)
    comes(gate)
    first, second = comes(gate), comes(gate)
    gate.abandon(first)
    assert gate.admit(1.001) == [second]


Move = tuple[str, float]


@given(
    rate=st.sampled_from([1.0, 3.0, 50.0]),
    most=st.sampled_from([1, 4, 100]),
    moves=st.lists(
        st.tuples(st.sampled_from(["come", "come", "leave", "abandon", "admit"]), st.floats(0, 0.7)), max_size=80
    ),
)
def test_whatever_happens_rate_and_connections_hold(rate: float, most: int, moves: list[Move]) -> None:
    """In every stretch of time at most a burst and the rate come in; places add up; no more than the limit."""
    gate = Turnstile("orders", LoginLimits(max_connections=most, logins_per_second=rate))
    now, tickets, entered = 0.0, list[Ticket](), list[float]()
    for move, passed in moves:
        now += passed
        before = sum(ticket.inside for ticket in tickets)
        if move == "come":
            with contextlib.suppress(Refused):
                tickets.append(comes(gate, now))
        elif move == "admit":
            gate.admit(now)
        elif tickets:
            (gate.leave if move == "leave" and tickets[0].inside else gate.abandon)(tickets.pop(0))
            before = min(before, sum(ticket.inside for ticket in tickets))
        inside = sum(ticket.inside for ticket in tickets)
        entered += [now] * (inside - before)
        assert gate.open == inside <= most
    for at, start in enumerate(entered):
        for count, end in enumerate(entered[at:], start=1):
            assert count <= gate.limits.burst + (end - start) * rate + 1e-6
