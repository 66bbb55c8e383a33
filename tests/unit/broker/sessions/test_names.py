from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.sessions.names import workload_session_name, workload_tag_value

ALLOWED = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")


@pytest.mark.parametrize(
    ("workload", "name"),
    [
        ("spiffe://example.org/ns/pay/sa/api", "example.org,ns,pay,sa,api"),
        ("payments", "payments"),
        ("jane@example.org", "jane@example.org"),
    ],
)
def test_a_workload_is_readable_in_its_session_name(workload: str, name: str) -> None:
    assert workload_session_name(workload) == name


@pytest.mark.parametrize("workload", ["dns:api.example.org", "x", "", "a b", "é", "spiffe://a/" + "b" * 80, "a,b"])
def test_what_does_not_fit_ends_in_a_hash(workload: str) -> None:
    name = workload_session_name(workload)
    assert ALLOWED.fullmatch(name)
    assert re.search(r"-[0-9a-f]{16}$", name)


@given(st.text(max_size=200), st.text(max_size=200))
def test_two_workloads_never_share_a_name_and_every_name_is_legal(one: str, other: str) -> None:
    assert ALLOWED.fullmatch(workload_session_name(one))
    if one != other:
        assert workload_session_name(one) != workload_session_name(other)


def test_a_spiffe_id_and_a_name_that_looks_like_its_session_name_are_two() -> None:
    assert workload_session_name("spiffe://a/b") != workload_session_name("a,b")
    assert workload_session_name("spiffe://payments") != workload_session_name("payments")


def test_a_tag_holds_the_whole_workload_where_sts_lets_it() -> None:
    assert workload_tag_value("spiffe://example.org/ns/a") == "spiffe://example.org/ns/a"
    assert len(workload_tag_value("x" * 1000)) == 256
    assert workload_tag_value("a\x00b") != workload_tag_value("a\x01b")
