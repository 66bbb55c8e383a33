"""The three places databases come from, held together: whoever puts one input anew gets everything merged anew.

    static      the configuration, again at each reload        put_static
    dynamic     RegistryService's store, through its poller    put_dynamic
    discovered  the sweep of AWS                               put_discovered

Each `put_*` takes the whole input, oldest first, and replaces what that source said before: what it leaves out is gone.
A source that could not be read puts nothing, so that a failure removes nothing. Watchers, and through them proxies,
hear only of what really changed. Lives on one event loop; merging 3,000 databases takes some tens of milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from broker.model import Origin, RegisteredDatabase
from broker.registry.registry import Registry
from broker.registry.snapshot import Renamed, Snapshot, merge

Enrich = Callable[[RegisteredDatabase], RegisteredDatabase | None]
"""The database with more labels and identifiers; None: it must not be served."""


class Sources:
    """The inputs of one `Registry`, which they keep current."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._inputs: dict[Origin, tuple[RegisteredDatabase, ...]] = dict.fromkeys(Origin, ())
        self.enrich: Enrich = lambda database: database
        """What AWS adds to static and dynamic databases; `refresh` when it would answer otherwise."""

    def put_static(self, databases: Iterable[RegisteredDatabase]) -> None:
        """Every database of the configuration."""
        self._put(Origin.STATIC, databases)

    def put_dynamic(self, databases: Iterable[RegisteredDatabase]) -> None:
        """Every dynamic database this broker serves."""
        self._put(Origin.DYNAMIC, databases)

    def put_discovered(self, databases: Iterable[RegisteredDatabase]) -> None:
        """Every database that discovery knows, those of accounts that did not answer this time included."""
        self._put(Origin.DISCOVERED, databases)

    def of(self, origin: Origin) -> tuple[RegisteredDatabase, ...]:
        """What a source last said, under the names it asked for."""
        return self._inputs[origin]

    @property
    def snapshot(self) -> Snapshot:
        """What is served now."""
        return self._registry.current()

    @property
    def renamed(self) -> tuple[Renamed, ...]:
        """Databases that lost the name they asked for, and what they are served as."""
        return self._registry.current().renamed

    @property
    def counts(self) -> Mapping[Origin, int]:
        """Databases by source, those that lost their name included."""
        return {origin: len(databases) for origin, databases in self._inputs.items()}

    def _put(self, origin: Origin, databases: Iterable[RegisteredDatabase]) -> None:
        taken = tuple(databases)
        if strangers := {database.origin for database in taken} - {origin}:
            raise ValueError(f"{origin} databases were expected, not {', '.join(sorted(strangers))}")
        if taken == self._inputs[origin]:
            return
        self._inputs[origin] = taken
        self.refresh()

    def refresh(self) -> None:
        """Merge anew what the sources last said."""
        static, dynamic = (
            [enriched for database in self._inputs[origin] if (enriched := self.enrich(database)) is not None]
            for origin in (Origin.STATIC, Origin.DYNAMIC)
        )
        self._registry.replace(merge(static, dynamic, self._inputs[Origin.DISCOVERED]))
