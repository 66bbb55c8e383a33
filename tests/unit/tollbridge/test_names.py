"""Which name may be meant: found among thousands, without comparing them all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tollbridge.names import MAX_COMPARED, nearest, worth_comparing

MANY = [f"{kind}-{number:04d}" for number in range(2_000) for kind in ("orders", "users", "a-much-longer-kind-of-name")]


@given(st.sampled_from(["billing", "tickets", "team-shop-warehouse"]), st.data())
def test_a_name_with_one_slip_is_found_among_thousands(name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(name) - 1))
    wrong = data.draw(st.sampled_from(["", "q", name[place] * 2]))
    slip = name[:place] + wrong + name[place + 1 :]
    assert nearest(slip, [*MANY, name]) == name


@given(st.one_of(st.text(max_size=300), st.sampled_from(MANY).map(lambda name: name + "x")))
def test_however_many_there_are_few_are_compared(name: str) -> None:
    """A comparison costs a fifth of a millisecond, and everybody else's logins wait."""
    assert len(worth_comparing(name, MANY)) <= MAX_COMPARED


def test_among_few_names_any_that_looks_like_it_is_found() -> None:
    assert nearest("rds-postgre", ["rds-postgres", "users"]) == "rds-postgres"
    assert nearest("srd-postrges", ["rds-postgres", "users"]) == "rds-postgres"
    assert nearest("orders", ["users"]) == ""


def test_what_is_no_slip_of_anybody_is_not_compared() -> None:
    assert nearest("x" * 60_000, ["x" * 200]) == nearest("", ["orders"]) == nearest("", MANY) == ""
