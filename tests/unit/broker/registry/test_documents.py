"""`kind: db` documents: the page's own loads word for word; a bad one hears everything that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from broker.model import Origin
from broker.registry.documents import Judged, Terms, judge, text_of, with_revision
from broker.registry.links import AccountLink, AccountLinks
from broker.teleport import Selector, SelectorAws
from tests.support.documents import THE_PAGES, document
from tollbridge.model import Product, TlsMode, TrustStore
from tollbridge.secret import Secret

_TABLE = Path(__file__).with_name("bad_db_documents.txt")
ACCOUNT = "arn:aws:iam::222222222222:role/"
ROLE = f"{ACCOUNT}example-role"
LINKS = AccountLinks(
    [
        AccountLink(name="example", role_arns=frozenset({ROLE}), external_id=Secret("example-external-id")),
        AccountLink(
            name="sweep",
            role_arns=frozenset({f"{ACCOUNT}only-discovery"}),
            origins=frozenset({Origin.DISCOVERED}),
        ),
    ]
)
EVERY = Selector(labels={"*": ["*"]})
TERMS = Terms(links=LINKS, selectors=(EVERY,))


@dataclass(frozen=True)
class Row:
    """`=== title`, the document, then `>>> line: path: message` and `  > hint` for each error."""

    title: str
    text: str
    errors: tuple[str, ...]


def rows() -> list[Row]:
    made = []
    for block in _TABLE.read_text().split("=== ")[1:]:
        title, _, rest = block.partition("\n")
        text, *errors = rest.split(">>> ")
        made.append(Row(title, text, tuple(errors)))
    return made


every_bad_document = pytest.mark.parametrize("row", rows(), ids=lambda row: row.title)


def test_the_table_is_as_long_as_it_promises() -> None:
    assert len(rows()) >= 70
    assert len({row.title for row in rows()}) == len(rows())
    assert all(row.errors for row in rows())


@every_bad_document
def test_all_errors_at_once_with_path_line_and_hint(row: Row) -> None:
    judged = judge(row.text, TERMS)
    assert judged.errors
    assert judged.database is None
    assert judged.text == ""
    said = []
    for problem in judged.problems:
        hint = f"  > {problem.hint}\n" if problem.hint else ""
        said.append(f"{problem.line or 0}: {problem.path}: {problem.message}\n{hint}")
    assert said == list(row.errors)


@every_bad_document
def test_errors_never_show_an_external_id_or_password(row: Row) -> None:
    said = str(judge(row.text, TERMS))
    assert not any(secret in said for secret in ("example-external-id", "one-id", "me:pw"))


def good(text: str, terms: Terms = TERMS) -> Judged:
    judged = judge(text, terms)
    assert not judged.errors, judged.problems
    assert judged.database is not None
    return judged


def test_the_pages_document_loads_word_for_word() -> None:
    judged = good(THE_PAGES)
    assert judged.problems == ()
    assert (judged.name, judged.labels, judged.selected) == ("rds-postgres", {"env": "dev"}, True)
    database = judged.database
    assert database is not None
    assert (database.origin, database.facts.product, database.facts.region) == (
        Origin.DYNAMIC,
        Product.RDS,
        "us-west-1",
    )
    assert (database.facts.tls.mode, database.facts.tls.trust_store) == (TlsMode.VERIFY_FULL, TrustStore.AWS_RDS)
    assert (database.access.role_arn, database.access.external_id) == (ROLE, Secret("example-external-id"))


def test_json_is_yaml() -> None:
    text = (
        '{"kind": "db", "version": "v3", "metadata": {"name": "a", "labels": {"env": "dev"}}, "spec": {"protocol":'
        ' "postgres", "uri": "a.abc.us-west-1.rds.amazonaws.com:5432", "aws": {"account_id": "222222222222"}}}'
    )
    assert good(text).name == "a"


def test_the_external_id_is_the_links_and_is_never_stored() -> None:
    """With it, and without it: the same database; a stored document holds none."""
    without = document(spec__aws__external_id=None)
    assert good(without).database == good(THE_PAGES).database
    assert good(without).text == good(THE_PAGES).text
    assert "external" not in good(THE_PAGES).text


def test_what_is_stored_comes_back_as_the_same_database_and_the_same_text() -> None:
    stored = good(THE_PAGES).text
    again = good(stored)
    assert (again.database, again.text) == (good(THE_PAGES).database, stored)
    assert good(with_revision(stored, 7)).revision == "7"
    assert good(with_revision(stored, 7)).text == stored


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), st.text(max_size=30))
def test_any_description_and_label_comes_back(description: str, label: str) -> None:
    """Whatever YAML makes of quotes, colons, control characters and other scripts."""
    content = yaml.safe_load(THE_PAGES)
    content["metadata"] |= {"description": description, "labels": {"x": label}}
    judged = judge(yaml.safe_dump(content, allow_unicode=False), TERMS)
    if judged.errors:
        return
    again = good(judged.text)
    assert again.database == judged.database


@given(st.text(max_size=200))
def test_arbitrary_text_is_judged_and_never_fails(text: str) -> None:
    judged = judge(text, TERMS)
    assert judged.errors
    assert judged.problems


def test_keys_of_teleport_that_mean_nothing_here_are_named_and_left_out() -> None:
    judged = good(document(sub_kind="x", spec__dynamic_labels={}, spec__aws__iam_policy_status="SUCCESS"))
    assert {problem.path for problem in judged.problems} == {
        "sub_kind",
        "spec.dynamic_labels",
        "spec.aws.iam_policy_status",
    }
    assert "dynamic_labels" not in judged.text


def test_a_selector_selects_by_labels_and_the_first_that_does_counts() -> None:
    prod = Selector(labels={"env": ["prod"]})
    dev = Selector(labels={"env": ["d*"]}, aws=SelectorAws(assume_role_arn=f"{ACCOUNT}dev"))
    assert not good(THE_PAGES, Terms(links=LINKS, selectors=(prod,))).selected
    assert not good(THE_PAGES, Terms(links=LINKS)).selected
    chosen = good(THE_PAGES, Terms(links=LINKS, selectors=(prod, dev, EVERY))).database
    assert chosen is not None
    assert chosen.access.role_arn == f"{ACCOUNT}dev"


def test_a_selectors_role_and_external_id_replace_the_documents_without_a_link() -> None:
    """They are the operator's own; the document's role is not asked about, nor its external ID sent."""
    aws = SelectorAws(assume_role_arn=f"{ACCOUNT}ours", external_id=Secret("ours-alone"))
    terms = Terms(links=LINKS, selectors=(Selector(labels={"*": ["*"]}, aws=aws),))
    for text in (THE_PAGES, document(spec__aws__assume_role_arn=f"{ACCOUNT}unlinked", spec__aws__external_id=None)):
        database = good(text, terms).database
        assert database is not None
        assert (database.access.role_arn, database.access.external_id) == (aws.assume_role_arn, Secret("ours-alone"))


def test_a_selectors_role_must_be_of_the_databases_account() -> None:
    aws = SelectorAws(assume_role_arn="arn:aws:iam::333333333333:role/ours")
    judged = judge(THE_PAGES, Terms(links=LINKS, selectors=(Selector(labels={"*": ["*"]}, aws=aws),)))
    assert judged.errors
    assert "the role is in account 333333333333, account_id is 222222222222" in judged.problems[0].message


def test_a_document_under_another_name_is_not_served() -> None:
    """Somebody wrote into the store by hand."""
    judged = judge(THE_PAGES, TERMS, name="analytics")
    assert judged.errors
    assert judged.problems[0].message == "the document of 'rds-postgres' is stored as 'analytics'"


def test_a_database_of_any_origin_is_shown_as_a_document_that_loads() -> None:
    database = good(THE_PAGES).database
    assert database is not None
    shown = good(text_of(database)).database
    assert shown == database
