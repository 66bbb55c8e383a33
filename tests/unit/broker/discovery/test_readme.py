"""What the README says about discovery loads as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from broker.discovery.load import load_matchers
from broker.discovery.plan import cells
from broker.registry.links import AccountLinks
from broker.settings import Settings
from tollbridge.model import Product
from tollbridge.process.settings import load_text

README: Final = Path(__file__).parents[4] / "README.md"


def test_the_readmes_matcher_loads_and_says_what_the_text_says() -> None:
    found = re.search(r"<!-- test: discovery.yaml -->\n```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    assert found
    settings = load_text(found[1], Settings).value
    keys = [cell.key for cell in cells(load_matchers(settings.db_service, AccountLinks()))]
    assert [(key.product, key.region) for key in keys] == [
        (Product.RDS, "us-west-1"),
        (Product.ELASTICACHE, "us-west-1"),
    ]
    assert not settings.discovery.iam_auth_changes
