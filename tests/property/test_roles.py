"""Whatever is asked for as a role: it is the database's, or it is refused, and no spelling slips past a rule."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import BrokerError
from broker.issuers.chain import role_hops
from broker.registry.arns import parse_role_arn
from broker.registry.roles import spellings
from tests.unit.broker.issuers.databases import database, request
from tollbridge.model import Product
from tollbridge.reasons import Reason

ACCOUNT = "222222222222"
NAMES = st.text("abcXYZ019_+=,.@-", min_size=1, max_size=64)
PATHS = st.lists(st.text("abc019-", min_size=1, max_size=8), max_size=3).map(
    lambda parts: "".join(f"{p}/" for p in parts)
)
ANYTHING = st.one_of(
    st.text(max_size=80),
    st.text("arn:ws-cio/l2e:", max_size=60),
    st.builds("arn:aws:iam::{}:role/{}".format, st.text("0123456789", max_size=13), st.text(max_size=20)),
    st.builds("role/{}".format, st.text("/ab. ", max_size=12)),
)
SERVERLESS = database(product=Product.REDSHIFT_SERVERLESS)
CLUSTER = database(product=Product.REDSHIFT)


@settings(max_examples=500)
@given(db_user=ANYTHING)
def test_what_is_assumed_last_is_a_role_of_the_database_s_account(db_user: str) -> None:
    """Or nothing is: the refusal is the caller's or the operator's to fix, never a crash."""
    last, reason = None, None
    try:
        last = role_hops(SERVERLESS, request(db_user=db_user), broker_name="tollbridge")[-1]
    except BrokerError as error:
        reason = error.reason
    if last is None:
        assert reason in {Reason.INVALID_REQUEST, Reason.ACCOUNT_MISMATCH, Reason.PARTITION_MISMATCH}
        return
    role = parse_role_arn(last.role_arn)
    assert (role.partition, role.account_id) == ("aws", ACCOUNT)
    assert db_user.endswith(role.name)


@given(name=NAMES, path=PATHS)
def test_every_spelling_of_a_role_has_the_same_spellings_and_the_same_chain(name: str, path: str) -> None:
    """So a rule written in any of them decides about all."""
    written = [f"role/{path}{name}", f"arn:aws:iam::{ACCOUNT}:role/{path}{name}"]
    if not path:
        written.append(name)
    sets = {spellings(SERVERLESS.facts, spelling) for spelling in written}
    assert sets == {frozenset(written)}
    chains = {role_hops(SERVERLESS, request(db_user=spelling), broker_name="tollbridge") for spelling in written}
    assert len(chains) == 1


@given(db_user=ANYTHING)
def test_a_user_always_stands_for_itself(db_user: str) -> None:
    """Expanding never loses what was asked for, and never makes two database users one."""
    for facts in (SERVERLESS.facts, CLUSTER.facts):
        assert db_user in spellings(facts, db_user)
    if not db_user.startswith(("role/", "arn:")):
        assert spellings(CLUSTER.facts, db_user) == {db_user}
