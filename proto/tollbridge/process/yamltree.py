"""YAML text to a bounded tree of mappings, lists and text, with the line of every key. PURE.

Built from the parser's events rather than by its constructor: no tag makes an object, depth and size are bounded
before anything is built, duplicate keys are seen, and every scalar stays the text that was written (None when empty).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import yaml

Where = tuple[str | int, ...]
"""Keys and indices from the top of the document."""

_MAX_DEPTH: Final = 32
"""Our deepest path has 8 levels."""
_MAX_NODES: Final = 1_000_000
"""After aliases are followed: ten levels of ten aliases each ("billion laughs") end here, not in memory."""
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlProblem(Exception):
    """The text is not a document we can read at all."""

    def __init__(self, message: str, line: int | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.hint = hint


@dataclass(frozen=True, slots=True)
class KeyProblem:
    """A key that is there twice."""

    where: Where
    line: int
    message: str
    hint: str


class MapNode(dict[str, Any]):
    """A mapping and where it stood."""

    __slots__ = ("where",)

    def __init__(self, where: Where, items: Iterable[tuple[str, Any]] = ()) -> None:
        super().__init__(items)
        self.where = where

    def without(self, keys: Iterable[str]) -> MapNode:
        """A copy that lacks some keys."""
        gone = set(keys)
        return MapNode(self.where, ((key, value) for key, value in self.items() if key not in gone))

    def cut(self, where: Where) -> None:
        """Take what stands there out of the tree; later items of a list move up."""
        _cut(self, where)


class ListNode(list[Any]):
    """A list."""


def parse(text: str) -> tuple[MapNode, dict[Where, int], list[KeyProblem]]:
    """The document, the line of each place, and its duplicate keys. Raises YamlProblem."""
    try:
        builder = _Builder(yaml.parse(text, Loader=_LOADER))
        tree = builder.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        what = str(error.problem or error.context)
        raise YamlProblem(f"not YAML: {what}", line, _syntax_hint(text, line, what)) from error
    except yaml.YAMLError as error:
        raise YamlProblem("not YAML: the file holds characters that YAML does not allow") from error
    if tree is None:
        tree = MapNode(())
    if not isinstance(tree, MapNode):
        raise YamlProblem("the file must be a mapping of sections, such as `aws:` and `listeners:`", 1)
    return tree, builder.lines, builder.problems


def where_text(where: Where) -> str:
    """As people write it: db_service.databases[2].aws.external_id."""
    text = ""
    for part in where:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part and all(letter.isalnum() or letter in "_-" for letter in part):
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text


def _syntax_hint(text: str, line: int | None, what: str) -> str:
    rows = text.splitlines()
    if line and line <= len(rows) and "\t" in rows[line - 1]:
        return "indent with spaces: YAML does not take tabs"
    if any(word in what for word in ("expected key", "'-' indicator", "block end", "mapping values")):
        return "look at the indentation, here and in the lines before"
    return ""


def _cut(tree: Any, where: Where) -> None:
    with suppress(KeyError, IndexError, TypeError):
        for part in where[:-1]:
            tree = tree[part]
        del tree[where[-1]]


@dataclass(frozen=True, slots=True)
class _Leaf:
    value: str | None


@dataclass(frozen=True, slots=True)
class _Pairs:
    pairs: list[tuple[str, int, Any]]


@dataclass(frozen=True, slots=True)
class _Items:
    items: list[tuple[int, Any]]


class _Builder:
    """First events to nodes (aliases share them), then nodes to a tree in which every place has its own value."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, Any] = {}
        self._count = 0
        self.lines: dict[Where, int] = {}
        self.problems: list[KeyProblem] = []

    def document(self) -> Any:
        root: Any = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise YamlProblem("one document is expected, the file holds several", _line(event), "remove '---'")
                root = self._node(next(self._events), 0)
        return None if root is None else self._place(root, ())

    def _node(self, event: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise YamlProblem(f"nested deeper than {_MAX_DEPTH} levels", _line(event))
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise YamlProblem("an alias must follow its complete anchor", _line(event))
            return self._anchors[event.anchor]
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            raise YamlProblem("tags are not used here", _line(event), "write the value without '!...'")
        if isinstance(event, yaml.ScalarEvent):
            node: Any = _Leaf(None if _is_null(event) else event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
                items.append((_line(inner), self._node(inner, depth + 1)))
            node = _Items(items)
        else:
            node = self._pairs(depth)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _pairs(self, depth: int) -> _Pairs:
        pairs = []
        while not isinstance(inner := next(self._events), yaml.MappingEndEvent):
            if not isinstance(inner, yaml.ScalarEvent):
                raise YamlProblem("a key must be text", _line(inner), "quote values that begin with { [ & * or %")
            if inner.value == "<<" and inner.implicit[0]:
                raise YamlProblem("merge keys ('<<') are not supported", _line(inner), "write the keys out")
            pairs.append((inner.value, _line(inner), self._node(next(self._events), depth + 1)))
        return _Pairs(pairs)

    def _place(self, node: Any, where: Where) -> Any:
        self._count += 1
        if self._count > _MAX_NODES:
            raise YamlProblem(f"more than {_MAX_NODES} values once aliases are followed")
        if len(where) > _MAX_DEPTH:
            raise YamlProblem(f"nested deeper than {_MAX_DEPTH} levels once aliases are followed")
        if isinstance(node, _Leaf):
            return node.value
        if isinstance(node, _Items):
            sequence = ListNode()
            for index, (line, item) in enumerate(node.items):
                self.lines[*where, index] = line
                sequence.append(self._place(item, (*where, index)))
            return sequence
        mapping = MapNode(where)
        seen: dict[str, int] = {}
        for key, line, item in node.pairs:
            place = (*where, key)
            if key in seen:
                self.problems.append(KeyProblem(place, line, "duplicate key", f"it already stands in line {seen[key]}"))
            seen[key] = line
            self.lines[place] = line
            value = self._place(item, place)
            if value is not None:  # empty counts as absent
                mapping[key] = value
        return mapping


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _is_null(event: Any) -> bool:
    return bool(event.implicit[0]) and event.style in (None, "") and event.value in {"", "~", "null", "Null", "NULL"}
