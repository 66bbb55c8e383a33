"""The configuration file is followed: good ones are put in force, bad ones change nothing and are named."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from broker.inforce import InForce
from broker.reload import ConfigFile, Reload
from broker.settings import Derived, Settings, load

GOOD = """
aws: {region: us-west-1}
access:
  rules:
    - {name: one, workloads: [w], db_labels: {env: dev}, db_users: [app]}
"""


class Place:
    """A file, what is in force, and what the hooks were told."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "broker.yaml"
        self.path.write_text(GOOD)
        self.told: list[tuple[str, ...]] = []
        self.in_force = InForce(load(self.path).value)
        self.in_force.on_change(self._note)
        self.reload: Reload = ConfigFile(self.path, lambda: load(self.path)).follow(self.in_force)

    async def _note(self, settings: Settings, derived: Derived) -> None:
        assert settings is self.in_force.settings
        self.told.append(tuple(rule.name for rule in derived.policy.rules))

    def write(self, *changes: tuple[str, str]) -> None:
        text = GOOD
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        self.path.write_text(text)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_nothing_happens_while_nothing_changes(place: Place) -> None:
    assert not await place.reload.look()
    place.path.touch()
    assert not await place.reload.look()
    assert (place.told, place.reload.reloads) == ([], 0)


async def test_a_changed_file_is_put_in_force_once(place: Place) -> None:
    before = place.in_force.policy
    place.write(("name: one", "name: two"))
    assert await place.reload.look()
    assert not await place.reload.look()
    assert place.told == [("two",)]
    assert place.in_force.policy.version != before.version
    assert (place.reload.reloads, place.reload.trouble) == (1, "")


async def test_operators_and_links_and_selectors_change_with_it(place: Place) -> None:
    extra = "operators: [{caller: ops}]\ndb_service: {resources: [{labels: {'*': '*'}}]}\n"
    place.write(("aws:", extra + "aws:"))
    await place.reload.look()
    assert [row.caller for row in place.in_force.operators.rows] == ["ops"]
    assert len(place.in_force.terms.selectors) == 1


async def test_the_same_rules_are_the_same_policy(place: Place) -> None:
    """So that nobody computes anew what everybody may see."""
    before = place.in_force.policy
    place.write(("aws:", "# a comment\naws:"))
    assert await place.reload.look()
    assert place.in_force.policy is before


async def test_a_file_with_an_error_changes_nothing_and_is_named(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    before = place.in_force.settings
    place.write(("workloads", "workload"), ("us-west-1", "mars"))
    with caplog.at_level(logging.ERROR):
        assert not await place.reload.look()
    assert place.in_force.settings is before
    assert (place.told, place.reload.rejected) == ([], 1)
    assert "broker.yaml has" in place.reload.trouble
    assert "'mars' is not a region" in caplog.text
    assert "the previous configuration stays in force" in caplog.text
    place.write(("name: one", "name: two"))
    assert await place.reload.look()
    assert place.reload.trouble == ""


async def test_what_is_wrong_is_said_once_and_seen_to_be_mended_elsewhere(place: Place, tmp_path: Path) -> None:
    """The error may be in a file that the configuration names."""
    role = "arn:aws:iam::222222222222:role/x"
    link = f"account_links: [{{name: a, role_arns: ['{role}'], external_id_file: {tmp_path}/id}}]"
    place.write(("aws:", f"{link}\naws:"))
    for _ in range(3):
        assert not await place.reload.look()
    assert place.reload.rejected == 1
    (tmp_path / "id").write_text("agreed-one")
    assert await place.reload.look()
    assert place.reload.trouble == ""


async def test_a_file_that_is_gone_changes_nothing(place: Place) -> None:
    place.path.unlink()
    assert not await place.reload.look()
    assert "cannot read" in place.reload.trouble
    place.write()
    assert await place.reload.look()
    assert place.reload.trouble == ""


async def test_sighup_reads_it_although_it_is_the_same(place: Place) -> None:
    """Files it names, such as an external ID's, may have changed."""
    place.reload.request()
    assert await place.reload.look()
    assert place.told == [("one",)]
    assert not await place.reload.look()


async def test_what_needs_a_restart_is_named_and_the_rest_is_put_in_force(place: Place) -> None:
    more = "admin: {address: '127.0.0.1:1'}\nregistry: {file: /elsewhere.db}\n"
    place.write(("name: one", "name: two"), ("aws:", more + "aws:"))
    assert await place.reload.look()
    assert place.told == [("two",)]
    assert place.reload.trouble.endswith("registry, admin changed: a restart is needed for that")
    place.write(("name: one", "name: three"))
    assert await place.reload.look()
    assert place.reload.trouble == ""


async def test_the_first_selector_needs_a_restart(place: Place) -> None:
    """There is no store to follow yet."""
    place.write(("aws:", "db_service: {resources: [{labels: {'*': '*'}}]}\naws:"))
    assert await place.reload.look()
    assert "db_service.resources or db_service.aws, for the first time" in place.reload.trouble


async def test_how_discovery_beats_needs_a_restart_and_whether_it_may_change_things_does_not(place: Place) -> None:
    place.write(("aws:", "discovery: {iam_auth_changes: true}\naws:"))
    assert await place.reload.look()
    assert (place.in_force.settings.discovery.iam_auth_changes, place.reload.trouble) == (True, "")
    place.write(("aws:", "discovery: {interval_seconds: 60}\naws:"))
    await place.reload.look()
    assert place.reload.trouble.endswith("discovery (but iam_auth_changes) changed: a restart is needed for that")


async def test_a_consequence_that_fails_does_not_end_the_broker(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    async def fails(_settings: Settings, _derived: Derived) -> None:
        raise ZeroDivisionError

    place.in_force.on_change(fails)
    place.write(("name: one", "name: two"))
    assert not await place.reload.look()
    assert "could not be put in force whole" in place.reload.trouble
    assert "ZeroDivisionError" in caplog.text
