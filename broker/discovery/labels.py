"""AWS tags and facts as labels. PURE.

Tags are written by whoever may tag a resource in its account, so they are cleaned and bounded, and can neither replace
what AWS itself says nor pass for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

MAX_TAGS: Final = 64
"""AWS takes 50 on a resource."""
MAX_KEY_CHARS: Final = 128
MAX_VALUE_CHARS: Final = 256
"""AWS's own limits, in characters."""

ACCOUNT_ID: Final = "account-id"
REGION: Final = "region"
ENGINE: Final = "engine"
ENGINE_VERSION: Final = "engine-version"
ENDPOINT_TYPE: Final = "endpoint-type"
VPC_ID: Final = "vpc-id"
FACTS: Final = frozenset({ACCOUNT_ID, REGION, ENGINE, ENGINE_VERSION, ENDPOINT_TYPE, VPC_ID})
"""Labels that only AWS's own description of a resource fills. A tag of such a name is left out, whether or not this
resource has the fact: a rule that asks for vpc-id must never be answered by a tag."""
_RESERVED_PREFIXES: Final = ("tollbridge/", "teleport.dev/", "teleport.internal/")

_NOT_IN_KEY: Final = re.compile(r"[^a-zA-Z0-9/._:-]")
_KEY: Final = re.compile(r"[a-zA-Z0-9/._:-]+", re.ASCII)


def labels(tags: Mapping[str, str], facts: Mapping[str, str]) -> dict[str, str]:
    """Tags, then facts over them; keys in order."""
    cleaned: dict[str, str] = {}
    # A tag that needed no cleaning keeps its key from one that was cleaned into it, whatever their order.
    ordered = sorted(tags.items(), key=lambda tag: (_KEY.fullmatch(tag[0]) is None, tag[0]))
    for key, value in ordered[:MAX_TAGS]:
        name = _NOT_IN_KEY.sub("_", key[:MAX_KEY_CHARS])
        if name and name not in FACTS and not name.lower().startswith(_RESERVED_PREFIXES):
            cleaned.setdefault(name, clean(value))
    stated = {key: clean(value) for key, value in facts.items() if value}
    return dict(sorted({**cleaned, **stated}.items()))


def clean(text: str) -> str:
    """Without what a terminal or a log would obey, and of bounded length."""
    return "".join(character if character.isprintable() else "_" for character in text[:MAX_VALUE_CHARS])
