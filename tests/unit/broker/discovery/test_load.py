"""Matchers as an operator writes them: what they become, and what is wrong with them."""

from __future__ import annotations

import textwrap

import pytest

from broker.discovery.load import load_matchers
from broker.discovery.plan import cells
from broker.settings import Settings, derive
from tollbridge.model import Product
from tollbridge.process.settings import SettingsError, load_text

ROLE = "arn:aws:iam::222222222222:role/example-role"
MATCHER = f"""
db_service:
  aws:
    - types: [rds, redshift]
      regions: [us-west-1, us-east-2, us-west-1]
      assume_role_arn: {ROLE}
"""


def settings(text: str) -> Settings:
    return load_text(textwrap.dedent(text), Settings).value


def errors(text: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        settings(text)
    return [f"{problem.path}: {problem.message}" for problem in raised.value.problems]


def test_a_cell_is_a_service_in_a_region_for_a_role() -> None:
    keys = [cell.key for cell in cells(derive(settings(MATCHER)).matchers)]
    assert [(key.region, key.product, key.account_id) for key in keys] == [
        ("us-west-1", Product.RDS, "222222222222"),
        ("us-west-1", Product.REDSHIFT, "222222222222"),
        ("us-east-2", Product.RDS, "222222222222"),
        ("us-east-2", Product.REDSHIFT, "222222222222"),
    ]


def test_an_account_link_holds_the_external_id_and_the_duration() -> None:
    link = f"""
    account_links:
      - name: example
        role_arns: [{ROLE}]
        external_id: from-the-link
        session_duration_seconds: 900
    """
    (matcher,) = derive(settings(textwrap.dedent(link) + MATCHER)).matchers
    assert (matcher.external_id.reveal(), matcher.session_duration_seconds) == ("from-the-link", 900)


def test_a_section_that_is_not_enabled_looks_for_nothing() -> None:
    loaded = load_text(MATCHER.replace("db_service:", "db_service:\n  enabled: false"), Settings)
    assert derive(loaded.value).matchers == ()
    assert "db_service.enabled" in {warning.path for warning in loaded.warnings}


def test_a_link_that_is_not_for_discovered_databases_contradicts_the_matcher() -> None:
    link = f"account_links:\n  - {{name: example, role_arns: [{ROLE}], for: [dynamic]}}\n"
    assert errors(link + MATCHER) == [
        f"db_service.aws[0].assume_role_arn: account link 'example' names {ROLE}, but not for discovered databases"
    ]


def test_one_role_has_one_external_id() -> None:
    link = f"account_links:\n  - {{name: example, role_arns: [{ROLE}], external_id: from-the-link}}\n"
    own = MATCHER + "      external_id: of-its-own\n"
    (said,) = errors(link + own)
    assert "the matcher and account link 'example' name different external IDs" in said
    assert "of-its-own" not in said
    (said,) = errors(own + MATCHER.replace("\ndb_service:\n  aws:", ""))
    assert "aws[0] names another external ID (or none) for the same role" in said


def test_a_role_reaches_no_other_partition() -> None:
    (said,) = errors(MATCHER.replace("us-east-2", "cn-north-1"))
    assert said == "db_service.aws[0].regions[1]: region cn-north-1 is in partition aws-cn, the role in aws"


def test_matchers_that_meet_in_a_cell_keep_what_each_asks_for() -> None:
    text = f"""
    db_service:
      aws:
        - {{types: [rds], regions: [us-west-1], assume_role_arn: "{ROLE}", tags: {{env: dev}}}}
        - {{types: [rds], regions: [us-west-1], assume_role_arn: "{ROLE}", tags: {{team: [shop, bank]}}}}
    """
    loaded = settings(text)
    (cell,) = cells(derive(loaded).matchers)
    assert cell.selectors == ({"env": ("dev",)}, {"team": ("shop", "bank")})
    assert len(load_matchers(loaded.db_service, derive(loaded).links)) == 2
