"""Reads one YAML file into a pydantic model and says everything that is wrong with it at once.

    class Admin(Section):
        address: str = "127.0.0.1:9090"

        def findings(self) -> Iterator[Finding]:        # what a type cannot say; runs although other parts are broken
            if self.address.startswith("0."):
                yield Finding(self.at("address"), "...", hint="...", warning=True)

    loaded = load("broker.yaml", Settings)              # Loaded(value, warnings), or SettingsError(problems)

YAML decides the structure and the model decides the types: every scalar arrives as the text that was written, so an
account ID keeps its leading zero, `8.10` stays a version, and `no` is a country where the model asks for text. Empty
values count as absent.

When some of it is malformed, what is left still goes through `findings`, so that one run of check-config shows all.
Values are never repeated in messages of the loader: a configuration file is the place where people paste secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Generic, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ModelWrapValidatorHandler,
    PlainValidator,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tollbridge.names import nearest
from tollbridge.process.yamltree import ListNode, MapNode, Where, YamlProblem, parse, where_text
from tollbridge.secret import Secret

_MAX_FILE_BYTES: Final = 8 * 1024 * 1024
"""Twenty thousand databases with all their fields. The file is the operator's, but a wrong path may be anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing to change in the file (or, as a warning, to know about)."""

    path: str
    """Such as `db_service.databases[2].aws.external_id`; empty for the file as a whole."""
    line: int | None
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        path = f"{self.path}: " if self.path else ""
        hint = f"\n    hint: {self.hint}" if self.hint else ""
        return f"{place}{path}{self.message}{hint}"

    def told(self, source: object, severity: str) -> str:
        """As compilers do, so that editors jump there: `file:line: severity: path: message`, the hint a line below."""
        place = f"{source}:{self.line}" if self.line else str(source)
        where = f"{self.path}: " if self.path else ""
        hint = f"\n    hint: {self.hint}" if self.hint else ""
        return f"{place}: {severity}: {where}{self.message}{hint}"


class SettingsError(Exception):
    """The file cannot be used. Holds every problem, in the order of the file."""

    def __init__(self, problems: Sequence[Problem], source: str = "") -> None:
        self.problems = list(problems)
        self.source = source
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Finding:
    """What a section says about itself beyond its types: an error, or a warning."""

    where: Where
    message: str
    hint: str = ""
    warning: bool = False


class Section(BaseModel):
    """A mapping of the file. Unknown keys are errors; `findings` adds what needs more than one field."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    known_elsewhere: ClassVar[frozenset[str]] = frozenset()
    """Keys other readers of the same document know: named warnings instead of errors."""
    _where: Where = PrivateAttr(default=())
    _ignored: tuple[str, ...] = PrivateAttr(default=())

    def at(self, *tail: str | int) -> Where:
        """Where in the file a key of this section stands."""
        return (*self._where, *tail)

    def findings(self) -> Iterable[Finding]:
        """Errors and warnings beyond types. Must cope with defaults in place of values that were malformed."""
        return ()

    @model_validator(mode="wrap")
    @classmethod
    def _remember_where(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if not isinstance(data, MapNode):
            if isinstance(data, str | ListNode):
                raise PydanticCustomError("tollbridge_mapping", "must be a mapping of keys to values")
            return handler(data)
        if isinstance(info.context, dict):
            info.context[data.where] = cls
        ignored = tuple(key for key in data if key in cls.known_elsewhere and key not in cls.model_fields)
        made = handler(data.without(ignored))
        made._ignored = ignored
        made._settle(data.where, data)
        return made

    def _settle(self, where: Where, written: Container[str] = ()) -> None:
        """Remember where it stands, and where sections that were not written would."""
        self._where = where
        for name, info in type(self).model_fields.items():
            key, value = info.alias or name, getattr(self, name)
            if isinstance(value, Section) and key not in written:
                value._settle((*where, key))


def _hide(value: Any) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "must be text")
    return Secret(value)


def _listed(value: Any) -> Any:
    if not isinstance(value, str | list):
        raise PydanticCustomError("tollbridge_texts", "must be text or a list of texts")
    return [value] if isinstance(value, str) else value


SecretText = Annotated[Secret, PlainValidator(_hide), WithJsonSchema({"type": "string"})]
"""Text that never prints. Give it a default_factory: a Secret cannot be copied."""

TextList = Annotated[
    list[str],
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""A list of texts; a single text stands for a list of one."""

SettingsT = TypeVar("SettingsT", bound=Section)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[SettingsT]):
    """A file that can be used, and what its reader should know all the same."""

    value: SettingsT
    warnings: list[Problem] = field(default_factory=list)


Check = Callable[[SettingsT], Iterable[Finding]]
"""Further findings about the whole, for what a section cannot know or should not do (look at other files, ...)."""


def load(path: str | Path, model: type[SettingsT], *, also: Check[SettingsT] | None = None) -> Loaded[SettingsT]:
    """Read and validate the file. Raises SettingsError with every problem found, those of `also` among them."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        hint = "name the file with --config" if isinstance(error, FileNotFoundError) else ""
        raise SettingsError([_whole(f"cannot read {path}: {error.strerror}", hint=hint)], str(path)) from error
    if len(raw) > _MAX_FILE_BYTES:
        raise SettingsError([_whole(f"the file is larger than {_MAX_FILE_BYTES} bytes")], str(path))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SettingsError([_whole("the file is not UTF-8 text", line)], str(path)) from error
    return load_text(text, model, source=str(path), also=also)


def load_text(
    text: str, model: type[SettingsT], *, source: str = "", also: Check[SettingsT] | None = None
) -> Loaded[SettingsT]:
    """As `load`, from text in hand. `source` names it in SettingsError."""
    try:
        tree, lines, problems = parse(text)
    except YamlProblem as error:
        raise SettingsError([_whole(error.message, error.line, error.hint)], source) from error
    malformed: list[_Entry] = []
    value = _validate(tree, model, malformed)
    reported = [_Entry(p.where, p.message, p.hint, p.line) for p in problems] + malformed
    cut = {entry.where for entry in malformed}
    warnings: list[_Entry] = []
    if value is not None:
        for finding in (*_all_findings(value), *(also(value) if also else ())):
            if any(finding.where[:length] in cut for length in range(len(finding.where) + 1)):
                continue  # judged a default that stands in for what was malformed
            entry = _Entry(finding.where, finding.message, finding.hint, None)
            target = warnings if finding.warning else reported
            if entry not in target:
                target.append(entry)
    if reported or value is None:
        raise SettingsError(_in_order(reported, lines), source)
    return Loaded(value, _in_order(warnings, lines))


def json_schema(model: type[Section]) -> dict[str, Any]:
    """The model's JSON Schema, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}


@dataclass(frozen=True, slots=True)
class _Entry:
    where: Where
    message: str
    hint: str
    line: int | None


def _whole(message: str, line: int | None = None, hint: str = "") -> Problem:
    return Problem(path="", line=line, message=message, hint=hint)


def _validate(tree: MapNode, model: type[SettingsT], reported: list[_Entry]) -> SettingsT | None:
    """Validate; report what fails, cut it out and validate the rest, so that its findings can be had too."""
    first = True
    while True:
        models: dict[Where, type[Section]] = {}
        try:
            return model.model_validate(tree, context=models)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
        cuts: set[Where] = set()
        for detail in details:
            loc = tuple(part for part in detail["loc"] if part != "[key]")
            if first:
                reported.append(_explain(detail, loc, models))
            cuts.add(loc[:-1] if detail["type"] == "missing" else loc)
        if () in cuts:
            return None
        for loc in sorted(cuts, key=_depth_and_index, reverse=True):
            tree.cut(loc)
        first = False


def _depth_and_index(loc: Where) -> tuple[int, list[int]]:
    """Deepest first and last item first, so that a cut never moves what is still to be cut."""
    return len(loc), [part if isinstance(part, int) else -1 for part in loc]


def _explain(detail: Any, loc: Where, models: dict[Where, type[Section]]) -> _Entry:
    kind, hint = str(detail["type"]), ""
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        message = "unknown key"
        parent = models.get(loc[:-1])
        hint = _did_you_mean(str(loc[-1]), parent) if parent else ""
    elif kind in _PLAIN:
        message = _PLAIN[kind].format(**context)
    elif kind in {"literal_error", "enum"}:
        message = f"must be {context['expected']}"
    elif kind == "value_error":
        message = str(context["error"])
    else:
        message = str(detail["msg"]).replace("Input should be", "must be").replace("input", "value")
        hint = str(context.get("hint", ""))
    return _Entry(loc, message, hint, None)


_PLAIN: Final = {
    "missing": "is required",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "too_short": "must hold at least {min_length}",
    "too_long": "must hold at most {max_length}",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
}


def _did_you_mean(key: str, model: type[Section]) -> str:
    names = [info.alias or name for name, info in model.model_fields.items()]
    within = [name for name in names if len(name) > 3 and name in key.lower()]
    meant = max(within, key=len) if within else nearest(key.lower(), names)
    return f"did you mean {meant!r}?" if meant else f"known here: {', '.join(names)}"


def _all_findings(value: object) -> Iterator[Finding]:
    if isinstance(value, Section):
        for key in value._ignored:
            yield Finding(value.at(key), "known to Teleport, not implemented here: ignored", warning=True)
        yield from value.findings()
        value = value.__dict__
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _all_findings(item)


def _in_order(entries: Iterable[_Entry], lines: dict[Where, int]) -> list[Problem]:
    problems = []
    for entry in entries:
        known = entry.where
        while known not in lines and known:
            known = known[:-1]
        line = entry.line or lines.get(known)
        problems.append(Problem(path=where_text(entry.where), line=line, message=entry.message, hint=entry.hint))
    return sorted(problems, key=lambda problem: (problem.line or 0, problem.path))
