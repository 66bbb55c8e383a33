"""The README's registry: the page's document is one that it takes."""

from __future__ import annotations

import re
from pathlib import Path

from broker.access.operators import Power
from broker.registry.documents import judge
from broker.settings import Settings, derive
from tests.support.documents import THE_PAGES, document
from tollbridge.process.settings import load_text

README = Path(__file__).parents[4] / "README.md"


def test_the_readmes_registry_takes_the_pages_document(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("example-external-id")
    found = re.search(r"<!-- test: registry.yaml -->\n```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    assert found
    settings = load_text(found[1].replace("/etc/tollbridge/example.external-id", f"{tmp_path}/id"), Settings).value
    assert settings.keeps_a_registry
    assert settings.registry.dynamodb.table == "tollbridge"
    derived = derive(settings)
    judged = judge(THE_PAGES, derived.terms)
    assert (judged.errors, judged.selected) == (False, True)
    assert not judge(document(metadata__labels={"env": "prod"}), derived.terms).selected
    shop = "spiffe://example.org/ns/shop/sa/registrar"
    assert derived.operators.may_for(shop, Power.REGISTER, {"team": "shop"})
    assert not derived.operators.may_for(shop, Power.REGISTER, {"team": "pay"})
