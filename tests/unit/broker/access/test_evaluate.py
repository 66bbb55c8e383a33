"""The decision, row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.access.evaluate import evaluate, may_see
from broker.access.model import Decision, Policy, ProxyRow, Rule
from tollbridge.model import Database, Endpoint, Product, Protocol, TlsFacts
from tollbridge.reasons import Reason

MESH = "spiffe://example.org"
WEB = f"{MESH}/ns/shop/sa/web"
PROXY = f"{MESH}/ns/shop/sa/proxy"
EVERY = {"*": ("*",)}


def database(name: str = "orders", *, protocol: Protocol = Protocol.POSTGRES, **labels: str) -> Database:
    return Database(
        name=name,
        protocol=protocol,
        product=Product.RDS,
        endpoint=Endpoint(host="orders.example", port=5432),
        tls=TlsFacts(),
        region="us-west-1",
        account_id="222222222222",
        labels=labels or {"env": "dev"},
    )


SHOP = Rule(
    name="shop",
    workloads=(f"{MESH}/ns/shop/*",),
    db_labels={"env": ("dev",)},
    db_users=("app", "read*"),
    db_names=("orders", "stock"),
)
NO_ADMIN = Rule(name="no-admin", deny=True, workloads=("*",), db_labels=EVERY, db_users=("*admin*",))
EVERYTHING = Rule(name="everything", workloads=("*",), db_labels=EVERY, db_users=("*",))
ROW = ProxyRow(caller=PROXY, workloads=(f"{MESH}/ns/shop/*",), db_labels={"env": ("dev",)})


def decide(
    *rules: Rule,
    proxies: tuple[ProxyRow, ...] = (),
    caller: str = WEB,
    workload: str = WEB,
    of: Database | None = None,
    db_user: str = "app",
    db_name: str = "orders",
) -> Decision:
    policy = Policy(version="1", rules=rules, proxies=proxies)
    return evaluate(
        policy, caller=caller, workload=workload, database=of or database(), db_user=db_user, db_name=db_name
    )


def test_an_allow_names_its_rule() -> None:
    assert decide(NO_ADMIN, SHOP) == Decision(allowed=True, rule="shop")


def test_no_rules_is_no() -> None:
    decision = decide()
    assert (decision.allowed, decision.reason) == (False, Reason.DATABASE_NOT_ALLOWED)
    assert "no rule names this workload" in decision.message


def test_deny_beats_an_allow_that_stands_before_it() -> None:
    decision = decide(EVERYTHING, NO_ADMIN, db_user="rdsadmin")
    assert (decision.allowed, decision.reason, decision.rule) == (False, Reason.DENIED_BY_RULE, "no-admin")
    assert "'no-admin'" in decision.message


def test_a_deny_must_match_whole() -> None:
    deny = Rule(name="d", deny=True, workloads=("*",), db_labels=EVERY, db_users=("*",), db_names=("secret",))
    assert decide(deny, EVERYTHING).allowed
    assert decide(deny, EVERYTHING, db_name="secret").reason is Reason.DENIED_BY_RULE


@pytest.mark.parametrize(
    ("asked", "reason", "words"),
    [
        ({"workload": f"{MESH}/ns/x", "caller": f"{MESH}/ns/x"}, Reason.DATABASE_NOT_ALLOWED, "no rule names this"),
        (
            {"of": database(env="prod")},
            Reason.DATABASE_NOT_ALLOWED,
            "rule 'shop' names the workload but selects env=dev",
        ),
        ({"db_user": "root"}, Reason.DB_USER_NOT_ALLOWED, "add 'root' to its db_users"),
        ({"db_user": "App"}, Reason.DB_USER_NOT_ALLOWED, "allows 'app', 'read*'"),
        ({"db_name": "payroll"}, Reason.DB_NAME_NOT_ALLOWED, "add 'payroll' to its db_names"),
        ({"db_user": "root", "db_name": "payroll"}, Reason.DB_USER_NOT_ALLOWED, "root"),
    ],
)
def test_a_refusal_names_the_last_condition_that_failed_and_the_fix(
    asked: dict[str, str], reason: Reason, words: str
) -> None:
    decision = decide(SHOP, **asked)  # type: ignore[arg-type]
    assert (decision.allowed, decision.reason, decision.rule) == (False, reason, "")
    assert words in decision.message


def test_the_rule_that_came_closest_is_named() -> None:
    far = Rule(name="far", workloads=("*",), db_labels={"env": ("prod",)}, db_users=("*",))
    near = Rule(name="near", workloads=("*",), db_labels=EVERY, db_users=("app",), db_names=("stock",))
    decision = decide(far, near)
    assert (decision.reason, "'near'" in decision.message) == (Reason.DB_NAME_NOT_ALLOWED, True)


def test_a_proxy_speaks_for_workloads_of_its_row() -> None:
    assert decide(SHOP, proxies=(ROW,), caller=PROXY).allowed


def test_nobody_speaks_for_others_without_a_row() -> None:
    decision = decide(SHOP, caller=PROXY)
    assert decision.reason is Reason.PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD
    assert f"add a proxies row for caller {PROXY}" in decision.message


def test_a_stolen_proxy_is_not_everybody() -> None:
    decision = decide(EVERYTHING, proxies=(ROW,), caller=PROXY, workload=f"{MESH}/ns/billing/sa/report")
    assert decision.reason is Reason.PROXY_MAY_NOT_SPEAK_FOR_WORKLOAD
    decision = decide(EVERYTHING, proxies=(ROW,), caller=PROXY, of=database("b", env="prod"))
    assert decision.reason is Reason.PROXY_MAY_NOT_SERVE_DATABASE
    assert "env=prod" in decision.message


def test_one_row_must_hold_both_the_workload_and_the_database() -> None:
    one = ProxyRow(caller=PROXY, workloads=(WEB,), db_labels={"env": ("prod",)})
    other = ProxyRow(caller=PROXY, workloads=("other",), db_labels={"env": ("dev",)})
    decision = decide(EVERYTHING, proxies=(one, other), caller=PROXY)
    assert decision.reason is Reason.PROXY_MAY_NOT_SERVE_DATABASE


def test_a_row_does_not_allow_what_no_rule_allows() -> None:
    assert decide(proxies=(ROW,), caller=PROXY).reason is Reason.DATABASE_NOT_ALLOWED


def test_a_proxy_acting_for_itself_is_a_client_like_any_other() -> None:
    assert decide(SHOP, proxies=(ROW,), caller=PROXY, workload=PROXY).allowed
    elsewhere = f"{MESH}/ns/mesh/sa/proxy"
    assert decide(SHOP, caller=elsewhere, workload=elsewhere).reason is Reason.DATABASE_NOT_ALLOWED


@pytest.mark.parametrize("product", [Product.REDSHIFT, Product.REDSHIFT_SERVERLESS])
@pytest.mark.parametrize(("db_user", "db_name"), [("PayRoll", "orders"), ("app", "SECRETS"), ("payroll", "x")])
def test_where_names_may_lose_their_case_a_deny_holds_whatever_it_is(
    product: Product, db_user: str, db_name: str
) -> None:
    """And an allow for one spelling alone; elsewhere another case is another user."""
    no_user = Rule(name="user", deny=True, workloads=("*",), db_labels=EVERY, db_users=("payRoll",))
    no_name = Rule(name="name", deny=True, workloads=("*",), db_labels=EVERY, db_users=("*",), db_names=("Secre*",))
    of = replace(database(), product=product)
    decision = decide(EVERYTHING, no_user, no_name, of=of, db_user=db_user, db_name=db_name)
    assert (decision.allowed, decision.reason) == (False, Reason.DENIED_BY_RULE)
    assert decide(EVERYTHING, no_user, no_name, of=database(), db_user=db_user, db_name=db_name).allowed
    allow = replace(no_user, name="allow", deny=False, db_users=("payRoll", "APP"))
    assert not decide(allow, of=of, db_user=db_user, db_name=db_name).allowed


def test_db_names_that_cannot_be_held_open_nothing() -> None:
    """Such pairs are load errors for what is configured; a database that comes later must not slip through."""
    blind = database(protocol=Protocol.MYSQL)
    assert decide(SHOP, of=blind).reason is Reason.DB_NAME_NOT_ALLOWED
    deny = Rule(name="d", deny=True, workloads=("*",), db_labels=EVERY, db_users=("*",), db_names=("secret",))
    assert decide(deny, EVERYTHING, of=blind).reason is Reason.DENIED_BY_RULE


def test_who_sees_what_in_the_catalog() -> None:
    dev, prod = database(env="dev"), database("b", env="prod")
    policy = Policy(version="1", rules=(SHOP, NO_ADMIN), proxies=(ROW,))
    assert [may_see(policy, caller, item) for caller in (PROXY, WEB, "else") for item in (dev, prod)] == [
        True,
        False,
        True,
        False,
        False,
        False,
    ]


def test_a_database_denied_as_a_whole_is_not_shown_to_that_client() -> None:
    whole = Rule(name="d", deny=True, workloads=(WEB,), db_labels=EVERY, db_users=("*",))
    policy = Policy(version="1", rules=(SHOP, whole))
    assert not may_see(policy, WEB, database())
    assert may_see(policy, f"{MESH}/ns/shop/sa/other", database())


def test_a_login_of_mongodb_enters_no_logical_database_and_its_messages_do() -> None:
    """Whoever may use any may log in; which is asked of each message."""
    docdb = database(protocol=Protocol.MONGODB)
    no_stock = replace(SHOP, name="no-stock", deny=True, db_names=("stock",))
    assert decide(no_stock, SHOP, of=docdb, db_name="").allowed
    assert decide(no_stock, SHOP, of=docdb, db_name="orders").allowed
    assert decide(no_stock, SHOP, of=docdb, db_name="stock").reason is Reason.DENIED_BY_RULE
    assert decide(SHOP, of=docdb, db_name="secrets").reason is Reason.DB_NAME_NOT_ALLOWED


def test_a_login_of_mongodb_still_needs_a_rule_for_its_role() -> None:
    docdb = database(protocol=Protocol.MONGODB)
    assert decide(SHOP, of=docdb, db_user="root", db_name="").reason is Reason.DB_USER_NOT_ALLOWED
    everything_denied = replace(SHOP, name="none", deny=True, db_names=("*",))
    assert decide(everything_denied, SHOP, of=docdb, db_name="").reason is Reason.DENIED_BY_RULE


def test_postgres_names_its_database_at_the_login() -> None:
    """There, an empty name is one that no rule allows."""
    assert decide(SHOP, db_name="").reason is Reason.DB_NAME_NOT_ALLOWED
