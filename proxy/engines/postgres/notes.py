"""What a client's startup packet says about itself, for the audit lines. PURE."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from proxy.engines.postgres.wire import Startup
from proxy.script import Script, note

NOTE_LIMIT: Final = 128
"""Characters of a client's own words in an audit line; application_name is 63 bytes in PostgreSQL."""

_WORD: Final = re.compile(rb"(?:\\.|[^\s\\])+", re.DOTALL)
_TAKES_ARGUMENT: Final = b"BCDdfhkNprStvW"
"""Flags of a backend, beside -c and --, that are followed by a value (getopt string of PostgreSQL's postgres.c)."""


def note_words(startup: Startup) -> Script[None]:
    """Leave in the audit lines how the client calls itself and which settings its `options` touch: names, no values."""
    for value in startup.values(b"application_name"):
        yield from note("application_name", _printable(value))
    names = b",".join(name for options in startup.values(b"options") for name in option_names(options))
    if names:
        yield from note("options", _printable(names))


def option_names(options: bytes) -> Iterator[bytes]:
    """Names set by `-c name=value` and `--name=value` in a startup packet's `options`.

    Read as the server reads them: blanks may be escaped, and flags may stand in one word (`-Pc role=admin`).
    """
    words = iter([re.sub(rb"\\(.)", rb"\1", word, flags=re.DOTALL) for word in _WORD.findall(options)])
    for word in words:
        if not word.startswith(b"-"):
            continue
        for at in range(1, len(word)):
            if word[at] in b"c-":
                setting = word[at + 1 :] or next(words, b"")
                yield setting.partition(b"=")[0].replace(b"-", b"_")
                break
            if word[at] in _TAKES_ARGUMENT:
                if at + 1 == len(word):
                    next(words, None)
                break


def _printable(value: bytes) -> str:
    return re.sub(r"[^ -~]", "?", value[:NOTE_LIMIT].decode("latin-1"))
