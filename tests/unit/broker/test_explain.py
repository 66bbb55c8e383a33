"""What an operator is told about a decision is what would be decided, and shows nothing secret."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.access.evaluate import evaluate
from broker.access.model import Policy, ProxyRow, Rule
from broker.explain import Known, explain
from broker.issuers import chain_of
from broker.model import Attribution, GrantRequest, Origin, RegisteredDatabase
from broker.registry.links import AccountLink, AccountLinks
from tests.support.clock import FakeClock
from tests.unit.broker.issuers.databases import database
from tests.unit.broker.issuers.fakes import issuers
from tests.unit.broker.sessions.fakes import ROLE
from tollbridge.model import Product
from tollbridge.reasons import Reason
from tollbridge.reports import Explanation
from tollbridge.secret import Secret

WORKLOAD = "spiffe://example.org/ns/shop/sa/api"
PROXY = "spiffe://example.org/proxy"
EXTERNAL_ID = "kept-between-us"

POLICY = Policy(
    version="p1",
    rules=(
        Rule(name="elsewhere", workloads=("spiffe://elsewhere/*",), db_labels={"*": ("*",)}, db_users=("app",)),
        Rule(
            name="shop", workloads=("spiffe://example.org/ns/shop/*",), db_labels={"env": ("dev",)}, db_users=("app",)
        ),
        Rule(name="no-root", workloads=("*",), db_labels={"*": ("*",)}, db_users=("root",), deny=True),
    ),
    proxies=(ProxyRow(caller=PROXY, workloads=("spiffe://example.org/ns/shop/*",), db_labels={"env": ("dev",)}),),
)


def labelled(each: RegisteredDatabase, **labels: str) -> RegisteredDatabase:
    """The same database with labels."""
    return replace(each, facts=replace(each.facts, labels=labels))


def known(*databases: RegisteredDatabase, links: AccountLinks | None = None) -> Known:
    """A broker that knows these."""
    entries = databases or (labelled(database(external_id=EXTERNAL_ID), env="dev"),)
    return Known(
        databases={each.name: each for each in entries},
        policy=POLICY,
        links=links or AccountLinks(),
        chain=chain_of(issuers(FakeClock())),
    )


def asked(**changes: str) -> GrantRequest:
    """`app` of `orders`, by the workload itself."""
    request = GrantRequest(caller=WORKLOAD, workload=WORKLOAD, database="orders", db_user="app", db_name="orders")
    return replace(request, **changes)


def failed_step(answer: Explanation) -> str:
    """The one step that is not ok: the last."""
    steps = [each.step for each in answer.steps if not each.ok]
    assert len(steps) == 1
    assert answer.steps[-1].step == steps[0]
    return steps[0]


def test_an_allowed_request_is_walked_to_the_credential() -> None:
    answer = explain(known(), asked())
    assert answer.allowed
    assert answer.rule == "shop"
    assert [each.step for each in answer.steps] == ["database", "proxy", "rules", "role", "credential"]
    assert "token for app" in answer.credential


def test_every_rule_says_how_far_it_matches() -> None:
    answer = explain(known(), asked())
    assert [(each.rule, each.matches, each.fails_at) for each in answer.rules] == [
        ("elsewhere", False, "workloads"),
        ("shop", True, ""),
        ("no-root", False, "db_users"),
    ]


@pytest.mark.parametrize(
    ("changes", "step", "reason"),
    [
        ({"database": "order"}, "database", Reason.DATABASE_UNKNOWN),
        ({"db_user": "root"}, "rules", Reason.DENIED_BY_RULE),
        ({"db_user": "other"}, "rules", Reason.DB_USER_NOT_ALLOWED),
        ({"workload": "spiffe://x/y", "caller": "spiffe://x/y"}, "rules", Reason.DATABASE_NOT_ALLOWED),
        ({"caller": "spiffe://example.org/unknown"}, "proxy", Reason.PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD),
        ({"db_user": ""}, "request", Reason.INVALID_REQUEST),
        ({"db_name": "x" * 64}, "names", Reason.INVALID_REQUEST),
    ],
)
def test_a_refusal_names_its_step_and_is_the_one_that_a_login_gets(
    changes: dict[str, str], step: str, reason: Reason
) -> None:
    answer = explain(known(), asked(**changes))
    assert not answer.allowed
    assert (failed_step(answer), answer.reason) == (step, reason)
    assert answer.message == answer.steps[-1].detail
    if step in ("rules", "proxy"):
        request = asked(**changes)
        decision = evaluate(
            POLICY,
            caller=request.caller,
            workload=request.workload,
            database=known().databases["orders"].facts,
            db_user=request.db_user,
            db_name=request.db_name,
        )
        assert decision.message == answer.message


def test_a_database_that_is_misspelt_is_guessed() -> None:
    assert "did you mean 'orders'" in explain(known(), asked(database="order")).message


def test_a_proxy_that_may_ask_is_named_by_its_row() -> None:
    answer = explain(known(), asked(caller=PROXY))
    assert answer.allowed
    assert PROXY in answer.steps[1].detail


def test_a_proxy_outside_its_labels_is_refused() -> None:
    answer = explain(known(labelled(database(), env="prod")), asked(caller=PROXY))
    assert answer.reason is Reason.PROXY_MAY_NOT_SERVE_DATABASE


def test_the_external_id_is_never_shown_only_where_it_comes_from() -> None:
    own = explain(known(), asked())
    assert own.role_chain[0].external_id_set
    assert own.role_chain[0].external_id_from == "the static database"
    link = AccountLink(name="shop-account", role_arns=frozenset({ROLE}), external_id=Secret(EXTERNAL_ID))
    linked = explain(known(links=AccountLinks([link])), asked())
    assert linked.role_chain[0].external_id_from == "account link shop-account"
    without = explain(known(labelled(database(), env="dev")), asked())
    assert not without.role_chain[0].external_id_set
    for answer in (own, linked, without):
        assert EXTERNAL_ID not in repr(answer)


def test_session_names_and_tags_are_those_of_the_calls() -> None:
    answer = explain(known(labelled(database(attribution=Attribution.WORKLOAD), env="dev")), asked())
    (hop,) = answer.role_chain
    assert hop.session_name == "example.org,ns,shop,sa,api"
    assert hop.tags == {"tollbridge-workload": WORKLOAD}


def test_a_role_that_is_the_user_is_the_second_hop() -> None:
    policy = replace(POLICY, rules=(replace(POLICY.rules[1], db_users=("Reader",)),))
    entry = labelled(database(product=Product.DYNAMODB, external_id=EXTERNAL_ID), env="dev")
    answer = explain(replace(known(entry), policy=policy), asked(db_user="Reader", db_name=""))
    first, second = answer.role_chain
    assert (first.role_arn, second.role_arn) == (ROLE, "arn:aws:iam::222222222222:role/Reader")
    assert (first.external_id_set, second.external_id_set) == (True, False)
    assert "SigV4 key" in answer.credential


def test_a_role_of_another_account_ends_the_walk_at_the_roles() -> None:
    policy = replace(POLICY, rules=(replace(POLICY.rules[1], db_users=("*",)),))
    entry = labelled(database(product=Product.DYNAMODB), env="dev")
    foreign = "arn:aws:iam::999999999999:role/Reader"
    answer = explain(replace(known(entry), policy=policy), asked(db_user=foreign, db_name=""))
    assert failed_step(answer) == "roles"
    assert answer.reason is Reason.ACCOUNT_MISMATCH


@pytest.mark.parametrize("product", sorted(Product))
def test_every_product_has_words_for_what_is_issued(product: Product) -> None:
    policy = replace(POLICY, rules=(replace(POLICY.rules[1], db_users=("*",)),))
    ids = {
        "elasticache.replication_group_id": "x", "elasticache_serverless.cache_name": "x", "memorydb.cluster_name": "x",
        "redshift.cluster_id": "x", "redshift_serverless.workgroup_name": "x",
    }  # fmt: skip
    entry = labelled(database(product=product, ids=ids), env="dev")
    answer = explain(replace(known(entry), policy=policy), asked(db_name=""))
    assert answer.allowed, answer.message
    assert answer.credential
    assert "{" not in answer.credential


def test_discovered_databases_say_so() -> None:
    entry = replace(labelled(database(external_id=EXTERNAL_ID), env="dev"), origin=Origin.DISCOVERED)
    answer = explain(known(entry), asked())
    assert "discovered rds" in answer.steps[0].detail
    assert answer.role_chain[0].external_id_from == "the discovered database"
