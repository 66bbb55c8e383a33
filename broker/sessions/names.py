"""Session names and tags: how a workload appears in CloudTrail of the database's account. PURE."""

from __future__ import annotations

import hashlib
import re
from typing import Final

NAME_MAX: Final = 64
"""STS: RoleSessionName is 2 to 64 of [\\w+=,.@-]."""
NAME_MIN: Final = 2
TAG_VALUE_MAX: Final = 256
"""STS: a tag's value."""
WORKLOAD_TAG: Final = "tollbridge-workload"
"""Key of the session tag that carries the whole workload."""

_SPIFFE: Final = "spiffe://"
_NOT_IN_NAME: Final = re.compile(r"[^A-Za-z0-9_+=,.@-]")
_HASHED: Final = re.compile(r"-[0-9a-f]{16}")
_NOT_IN_TAG: Final = re.compile(r"[^\w .:/=+@-]")
_DIGEST: Final = 16


def workload_session_name(workload: str) -> str:
    """A session name for a workload; two workloads never share one.

    A SPIFFE ID loses its scheme and its slashes become commas, which no SPIFFE ID holds: that is reversible. Whatever
    would lose something, could be taken for another, or is too long keeps a readable start and ends in a hash.
    """
    if workload.startswith(_SPIFFE):
        wanted = workload.removeprefix(_SPIFFE).replace("/", ",")
        reversible = "," not in workload and "," in wanted
    else:
        wanted = workload
        reversible = "," not in workload
    name = _NOT_IN_NAME.sub("-", wanted)
    lossless = reversible and name == wanted and not _HASHED.fullmatch(name[-_DIGEST - 1 :])
    if lossless and NAME_MIN <= len(name) <= NAME_MAX:
        return name
    return f"{name[: NAME_MAX - _DIGEST - 1]}-{_digest(workload)}"


def workload_tag_value(workload: str) -> str:
    """The workload as the value of a session tag: whole where STS lets it, otherwise cut and ended with a hash."""
    value = _NOT_IN_TAG.sub("_", workload)
    if value == workload and len(value) <= TAG_VALUE_MAX:
        return value
    return f"{value[: TAG_VALUE_MAX - _DIGEST - 1]}-{_digest(workload)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGEST]
