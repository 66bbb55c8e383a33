"""What operators do to the registry, and what they may not."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from broker.access.operators import OperatorRow, Operators, Power
from broker.api.registry import registration
from broker.audit import Audit, Counters
from broker.errors import BrokerError, DocumentRefused
from broker.model import Origin, RegisteredDatabase
from broker.registry.documents import Judged, Terms, judge
from broker.registry.dynamic import DynamicDatabases
from broker.registry.registrar import Registrar
from broker.registry.registry import Registry
from broker.registry.sources import Sources
from broker.registry.store import DATABASES, Change
from broker.teleport import Selector
from tests.support.clock import FakeClock
from tests.support.documents import THE_PAGES, document
from tests.unit.broker.registry.stores import FakeStore
from tests.unit.broker.registry.test_documents import LINKS, TERMS
from tests.unit.broker.registry.test_snapshot import database
from tollbridge.process.settings import Problem
from tollbridge.reasons import Reason

OPS, SHOP, VIEWER = "spiffe://td/ops", "spiffe://td/shop-registrar", "spiffe://td/viewer"
OPERATORS = Operators(
    [
        OperatorRow(caller=OPS, powers=frozenset(Power)),
        OperatorRow(caller=SHOP, powers=frozenset({Power.VIEW, Power.REGISTER}), db_labels={"team": ("shop",)}),
        OperatorRow(caller=VIEWER, powers=frozenset({Power.VIEW})),
    ]
)


class Office:
    """A registrar with all it stands on."""

    def __init__(self, path: Path, *, terms: Terms = TERMS, stored: bool = True) -> None:
        self.clock = FakeClock()
        self.store = FakeStore(path, self.clock)
        self.registry = Registry()
        self.sources = Sources(self.registry)
        self.lines: list[str] = []
        self.verdict: Sequence[Problem] = ()
        self.dynamic = DynamicDatabases(
            self.store, self.sources, terms, clock=self.clock, jitter=lambda: 0.5, sleep=_never
        )
        self.registrar = Registrar(
            sources=self.sources,
            terms=lambda: self.dynamic.terms,
            operators=lambda: OPERATORS,
            audit=Audit(sink=self.lines.append, counters=Counters()),
            clock=self.clock,
            dynamic=self.dynamic if stored else None,
            verify=self._verify,
        )

    async def _verify(self, _database: RegisteredDatabase) -> Sequence[Problem]:
        return self.verdict

    @property
    def audited(self) -> list[tuple[str, str, str]]:
        """Caller, action, database of what was done."""
        lines = map(json.loads, self.lines)
        return [(line["caller"], line["action"], line["database"]) for line in lines if "action" in line]


async def _never(_seconds: float) -> None:
    raise AssertionError("nothing waits here")


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    office = Office(tmp_path / "registry.db")
    await office.dynamic.start()
    yield office
    await office.store.close()


async def refused(reason: Reason, attempt: object) -> str:
    """The message of a refusal."""
    with pytest.raises(BrokerError) as caught:
        await attempt  # type: ignore[misc]
    assert caught.value.reason is reason
    return caught.value.message


async def test_what_is_created_is_served_at_once_and_audited(office: Office) -> None:
    made = await office.registrar.create(OPS, THE_PAGES)
    assert office.registry.current().by_name["rds-postgres"].origin is Origin.DYNAMIC
    assert (made.revision, made.account_link, made.written_by, made.errors) == (1, "example", OPS, False)
    assert made.served is office.registry.current().by_name["rds-postgres"]
    assert "revision: '1'" in made.document
    assert office.audited == [(OPS, "create", "rds-postgres")]


async def test_a_second_create_of_a_name_is_refused_and_changes_nothing(office: Office) -> None:
    await office.registrar.create(OPS, THE_PAGES)
    said = await refused(
        Reason.DATABASE_EXISTS, office.registrar.create(OPS, document(metadata__description="another"))
    )
    assert said.startswith("dynamic database 'rds-postgres' exists already, at revision 1")
    assert "another" not in office.registrar.get(OPS, "rds-postgres").document
    assert len(office.audited) == 1


async def test_a_bad_document_is_refused_with_everything_wrong_and_nothing_is_written(office: Office) -> None:
    with pytest.raises(DocumentRefused) as caught:
        await office.registrar.create(OPS, document(spec__protocol="x", spec__uri="attacker.example:1"))
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert {problem.path for problem in caught.value.problems} == {"spec.protocol", "spec.uri", "spec.aws.region"}
    assert caught.value.message.startswith("the document of 'rds-postgres' has 3 problems: ")
    assert "\n" not in caught.value.message
    assert (office.audited, await office.store.mark(DATABASES)) == ([], 0)


async def test_what_aws_says_against_a_database_keeps_it_out(office: Office) -> None:
    """The question to AWS that the grammar cannot answer."""
    office.verdict = [Problem(path="spec.uri", line=None, message="AWS knows it under another address")]
    with pytest.raises(DocumentRefused, match="another address"):
        await office.registrar.create(OPS, THE_PAGES)
    assert await office.store.mark(DATABASES) == 0


async def test_validate_only_writes_nothing_and_says_the_same(office: Office) -> None:
    judged = await office.registrar.create(OPS, THE_PAGES, validate_only=True)
    assert (judged.name, judged.revision, office.audited) == ("rds-postgres", 0, [])
    assert await office.store.mark(DATABASES) == 0
    await office.registrar.create(OPS, THE_PAGES)
    await refused(Reason.DATABASE_EXISTS, office.registrar.create(OPS, THE_PAGES, validate_only=True))
    again = await office.registrar.update(OPS, document(metadata__description="new"), validate_only=True)
    assert "new" not in office.registrar.get(OPS, "rds-postgres").document
    assert again.revision == 1


async def test_an_update_of_an_old_revision_is_refused(office: Office) -> None:
    """Whether the revision comes beside the document or in it."""
    await office.registrar.create(OPS, THE_PAGES)
    read = office.registrar.get(OPS, "rds-postgres").document
    await office.registrar.update(OPS, document(metadata__description="first"), revision="1")
    for attempt in (office.registrar.update(OPS, read), office.registrar.update(OPS, THE_PAGES, revision="1")):
        said = await refused(Reason.REVISION_CONFLICT, attempt)
        assert "'rds-postgres' is at revision 2: somebody else was first" in said
    await refused(Reason.REVISION_CONFLICT, office.registrar.delete(OPS, "rds-postgres", revision="1"))
    assert (await office.registrar.update(OPS, THE_PAGES, revision="2")).revision == 3


@pytest.mark.parametrize("revision", ["x", "-1", "1.0", "٣", "9" * 40])
async def test_a_revision_that_no_broker_gave_out_is_said_so(office: Office, revision: str) -> None:
    await refused(Reason.INVALID_REQUEST, office.registrar.update(OPS, THE_PAGES, revision=revision))


async def test_an_update_without_a_revision_takes_whatever_is_there_even_when_another_writes_meanwhile(
    office: Office,
) -> None:
    await office.registrar.create(OPS, THE_PAGES)
    theirs = office.dynamic.entries["rds-postgres"].item.document
    office.store.before_write = [Change(name="rds-postgres", document=theirs)]
    assert (await office.registrar.update(OPS, document(metadata__description="mine"))).revision == 3
    assert "mine" in office.registrar.get(OPS, "rds-postgres").document


async def test_with_a_revision_another_writer_meanwhile_wins(office: Office) -> None:
    await office.registrar.create(OPS, THE_PAGES)
    theirs = office.dynamic.entries["rds-postgres"].item.document
    office.store.before_write = [Change(name="rds-postgres", document=theirs)]
    said = await refused(Reason.REVISION_CONFLICT, office.registrar.update(OPS, THE_PAGES, revision="1"))
    assert "is at revision 2" in said


async def test_update_creates_only_where_that_is_allowed(office: Office) -> None:
    await refused(Reason.DATABASE_UNKNOWN, office.registrar.update(OPS, THE_PAGES))
    await refused(Reason.DATABASE_UNKNOWN, office.registrar.update(OPS, THE_PAGES, revision="1", allow_missing=True))
    assert (await office.registrar.update(OPS, THE_PAGES, allow_missing=True)).revision == 1
    assert (await office.registrar.update(OPS, THE_PAGES, allow_missing=True)).revision == 2
    assert [action for _, action, _ in office.audited] == ["create", "update"]


async def test_two_who_create_with_allow_missing_both_get_through(office: Office) -> None:
    office.store.before_write = [Change(name="rds-postgres", document=THE_PAGES)]
    assert (await office.registrar.update(OPS, THE_PAGES, allow_missing=True)).revision == 2


async def test_what_is_deleted_is_gone_and_its_name_may_be_taken_anew(office: Office) -> None:
    await office.registrar.create(OPS, THE_PAGES)
    await office.registrar.delete(OPS, "rds-postgres", revision="1")
    assert "rds-postgres" not in office.registry.current().by_name
    await refused(Reason.DATABASE_UNKNOWN, office.registrar.delete(OPS, "rds-postgres"))
    assert (await office.registrar.create(OPS, THE_PAGES)).revision == 3


async def test_delete_says_where_a_database_that_is_not_dynamic_comes_from(office: Office) -> None:
    office.sources.put_static([database("s")])
    office.sources.put_discovered([database("d", origin=Origin.DISCOVERED)])
    assert "configuration file" in await refused(Reason.DATABASE_UNKNOWN, office.registrar.delete(OPS, "s"))
    assert "`forget`" in await refused(Reason.DATABASE_UNKNOWN, office.registrar.delete(OPS, "d"))


async def test_labels_bound_what_an_operator_registers_changes_deletes_and_sees(office: Office) -> None:
    """The labels a database has, and those it would get."""
    shop, payments = document("a", metadata__labels={"team": "shop"}), document("b", metadata__labels={"team": "pay"})
    await office.registrar.create(SHOP, shop)
    await office.registrar.create(OPS, payments)
    took_over = document("b", metadata__labels={"team": "shop"})
    let_go = document("a", metadata__labels={"team": "pay"})
    for attempt in (
        office.registrar.create(SHOP, document("c")),
        office.registrar.create(SHOP, document("c", metadata__labels={"team": "pay"})),
        office.registrar.update(SHOP, took_over),
        office.registrar.update(SHOP, let_go),
        office.registrar.delete(SHOP, "b"),
    ):
        said = await refused(Reason.CALLER_NOT_ALLOWED, attempt)
        assert "with these labels" in said
    tried = [line["database"] for line in map(json.loads, office.lines) if line.get("allowed") is False]
    assert tried == ["c", "c", "b", "a", "b"]
    assert len(office.lines) == 2 + len(tried)
    assert [entry.name for entry in office.registrar.list(SHOP)] == ["a"]
    assert [entry.name for entry in office.registrar.list(OPS)] == ["a", "b"]
    with pytest.raises(BrokerError, match="no database 'b' is registered"):
        office.registrar.get(SHOP, "b")
    await refused(Reason.CALLER_NOT_ALLOWED, office.registrar.create(VIEWER, shop))


async def test_a_name_that_a_static_database_has_is_served_longer_and_said_so(office: Office) -> None:
    """A hostile document does not take over what rules and clients mean by that name."""
    static = database("rds-postgres", account="111111111111")
    office.sources.put_static([static])
    made = await office.registrar.create(OPS, THE_PAGES)
    assert office.registry.current().by_name["rds-postgres"] is static
    assert made.served is not None
    assert made.served.name == "rds-postgres-rds-us-west-1-222222222222"
    (problem,) = made.problems
    assert "a static database already has the name 'rds-postgres'" in problem.message
    assert office.registrar.get(OPS, "rds-postgres").origin is Origin.STATIC
    assert office.registrar.get(OPS, made.served.name).origin is Origin.DYNAMIC


async def test_of_many_databases_only_those_that_may_be_meant_are_looked_at(office: Office) -> None:
    """Writing each of twenty thousand down took 0.4 s of the loop for everybody who asked for one."""
    office.sources.put_static([database("orders"), database("users")])
    for name in ("orders", "tickets"):
        await office.registrar.create(OPS, document(name))
    assert [each.name for each in office.registrar.list(OPS, name="tickets")] == ["tickets"]
    assert [each.origin for each in office.registrar.list(OPS, name="orders")] == [Origin.STATIC, Origin.DYNAMIC]
    assert office.registrar.get(OPS, "orders-rds-us-west-1-222222222222").origin is Origin.DYNAMIC
    assert office.registrar.get(OPS, "orders").origin is Origin.STATIC


async def test_the_name_of_a_discovered_database_is_for_those_who_may_touch_it(office: Office) -> None:
    """Dynamic beats discovered, so that an operator can overrule what was found; not one team's what is another's."""
    found = database("orders", origin=Origin.DISCOVERED)
    theirs = dataclasses.replace(found, facts=dataclasses.replace(found.facts, labels={"team": "pay"}))
    office.sources.put_discovered([theirs])
    hostile = document("orders", metadata__labels={"team": "shop"})
    said = await refused(Reason.CALLER_NOT_ALLOWED, office.registrar.create(SHOP, hostile))
    assert "with these labels (team=pay)" in said
    assert office.registry.current().by_name["orders"] is theirs
    await office.registrar.create(OPS, hostile)
    assert office.registry.current().by_name["orders"].origin is Origin.DYNAMIC


async def test_the_longer_name_of_a_database_that_lost_its_own_is_for_those_who_may_touch_it(office: Office) -> None:
    """Else whoever knows how losers are called would be met under that name, instead of them."""
    office.sources.put_static([database("rds-postgres")])
    theirs = await office.registrar.create(OPS, document(metadata__labels={"env": "dev", "team": "pay"}))
    assert theirs.served is not None
    longer = theirs.served.name
    said = await refused(
        Reason.CALLER_NOT_ALLOWED,
        office.registrar.create(SHOP, document(longer, metadata__labels={"env": "dev", "team": "shop"})),
    )
    assert "team=pay" in said
    assert office.registry.current().by_name[longer].facts.labels["team"] == "pay"
    await office.registrar.create(OPS, document(longer, metadata__labels={"env": "dev", "team": "shop"}))


async def test_a_database_that_no_selector_selects_is_stored_and_not_served(tmp_path: Path) -> None:
    office = Office(tmp_path / "r.db", terms=Terms(links=LINKS, selectors=(Selector(labels={"env": ["prod"]}),)))
    await office.dynamic.start()
    made = await office.registrar.create(OPS, THE_PAGES)
    assert made.served is None
    assert not made.errors
    assert "no resource selector of this broker selects database 'rds-postgres'" in made.problems[0].message
    assert dict(office.registry.current().by_name) == {}
    await office.dynamic.reconsider(TERMS)
    assert "rds-postgres" in office.registry.current().by_name
    await office.store.close()


async def test_a_document_that_no_longer_passes_is_not_served_and_says_why(office: Office) -> None:
    """An operator took the role out of the account link; the store still holds the document."""
    await office.registrar.create(OPS, THE_PAGES)
    await office.dynamic.reconsider(Terms(links=type(LINKS)(), selectors=TERMS.selectors))
    assert dict(office.registry.current().by_name) == {}
    found = office.registrar.get(OPS, "rds-postgres")
    assert (found.served, found.errors) == (None, True)
    assert "no account link names it for dynamic databases" in found.problems[0].message


async def test_what_somebody_wrote_into_the_store_by_hand_is_judged_all_the_same(office: Office) -> None:
    hostile = {
        "foreign": document("foreign", spec__aws__assume_role_arn="arn:aws:iam::222222222222:role/admin"),
        "elsewhere": document("elsewhere", spec__uri="attacker.example:5432", spec__aws__region="us-west-1"),
        "renamed": THE_PAGES,
        "garbage": "\x00",
        "text": "just a text",
        "list": "[kind, db]",
    }
    changes = [Change(name=name, document=text) for name, text in hostile.items()]
    await office.store.write(DATABASES, changes, by="somebody")
    await office.dynamic.follower.refresh()
    assert dict(office.registry.current().by_name) == {}
    assert {name: entry.judged.errors for name, entry in office.dynamic.entries.items()} == dict.fromkeys(hostile, True)
    listed = [registration(each) for each in office.registrar.list(OPS)]
    assert {each.name: bool(each.problems) for each in listed} == dict.fromkeys(hostile, True)
    await office.registrar.delete(OPS, "garbage")


async def test_an_external_id_that_was_written_into_the_store_by_hand_is_not_shown(office: Office) -> None:
    text = document()
    assert "external_id: example-external-id" in text
    await office.store.write(DATABASES, [Change(name="rds-postgres", document=text)], by="somebody")
    await office.dynamic.follower.refresh()
    shown = office.registrar.get(VIEWER, "rds-postgres")
    assert shown.served is not None
    assert "assume_role_arn" in shown.document
    assert "external" not in shown.document


async def test_a_document_that_breaks_the_judge_harms_no_other(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stands in a store that every broker reads, at every start."""

    def breaks(text: str, terms: Terms, *, name: str = "") -> Judged:
        if name == "poison":
            raise RecursionError
        return judge(text, terms, name=name)

    monkeypatch.setattr("broker.registry.dynamic.judge", breaks)
    changes = [Change(name="poison", document="x"), Change(name="rds-postgres", document=THE_PAGES)]
    await office.store.write(DATABASES, changes, by="")
    await office.dynamic.follower.refresh()
    assert set(office.registry.current().by_name) == {"rds-postgres"}
    assert "could not be judged" in office.registrar.get(OPS, "poison").problems[0].message
    assert "RecursionError" in caplog.text


async def test_while_the_store_is_away_writes_fail_and_what_is_known_stays(office: Office) -> None:
    await office.registrar.create(OPS, THE_PAGES)
    office.store.away = True
    for attempt in (
        office.registrar.create(OPS, document("b")),
        office.registrar.update(OPS, THE_PAGES),
        office.registrar.delete(OPS, "rds-postgres"),
    ):
        said = await refused(Reason.REGISTRY_UNAVAILABLE, attempt)
        assert said == "the registry's store does not answer: it is away"
    assert "rds-postgres" in office.registry.current().by_name
    assert office.registrar.get(OPS, "rds-postgres").revision == 1


@pytest.mark.parametrize("action", ["create", "update", "delete"])
async def test_who_leaves_before_the_answer_changes_nothing_unseen(office: Office, action: str) -> None:
    """The store goes on with a write whose caller is gone."""
    if action != "create":
        await office.registrar.create(OPS, THE_PAGES)
        office.lines.clear()
    attempt = office.registrar.delete(OPS, "rds-postgres")
    if action != "delete":
        attempt.close()
        attempt = getattr(office.registrar, action)(OPS, document(metadata__description="new"))
    office.store.gate, office.store.written = asyncio.Event(), 0
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(attempt)
        while not office.store.written:  # noqa: ASYNC110 - the loop's own turns are what is waited for
            await asyncio.sleep(0)
        asking.cancel()
    assert office.audited == [(OPS, action, "rds-postgres")]
    assert json.loads(office.lines[0])["result"] == "unknown"


async def test_a_store_that_falls_silent_may_have_made_the_change_and_the_line_says_so(office: Office) -> None:
    office.store.silent = True
    await refused(Reason.REGISTRY_UNAVAILABLE, office.registrar.create(OPS, THE_PAGES))
    assert office.audited == [(OPS, "create", "rds-postgres")]
    assert json.loads(office.lines[0])["result"] == "unknown"
