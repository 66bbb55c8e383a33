"""`db_service.aws` to matchers, and what is wrong with them beyond their own fields. PURE."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from broker.discovery.model import Matcher
from broker.model import Origin
from broker.registry.arns import parse_role_arn, partition_of_region
from broker.registry.links import AccountLinks
from broker.teleport import MATCHER_TYPES, DbService
from broker.teleport import Matcher as MatcherSection
from tollbridge.model import Product
from tollbridge.process.settings import Finding, Section
from tollbridge.secret import Secret


class DiscoverySection(Section):
    """`discovery:` how `db_service.aws` is looked for. Not Teleport's."""

    interval_seconds: int = Field(default=300, ge=1, le=86400, description="Between two sweeps, give or take a tenth.")
    name_tag: str = Field(
        default="",
        max_length=128,
        description="Tag whose value names a database, such as teleport.dev/database_name. Empty: tags name none.",
    )
    fetch_metadata: bool = Field(
        default=True,
        description="Static and dynamic databases are compared with what AWS says of them; its tags become labels.",
    )
    iam_auth_changes: bool = Field(
        default=False,
        description="Operators who may apply may have IAM authentication turned on for RDS and Aurora.",
    )
    threads: int = Field(default=8, ge=1, le=64, description="Calls to AWS at once, apart from those for logins.")

    @property
    def at_start_only(self) -> tuple[object, ...]:
        """What cannot change while a broker runs."""
        return self.interval_seconds, self.name_tag, self.fetch_metadata, self.threads


def load_matchers(section: DbService, links: AccountLinks) -> tuple[Matcher, ...]:
    """Of a section without errors. An account link for a matcher's role may hold its external ID and its limits."""
    if not section.enabled:
        return ()
    found = []
    for written in section.aws:
        link = links.find(written.assume_role_arn, Origin.DISCOVERED) if written.assume_role_arn else None
        found.append(
            Matcher(
                products=tuple(Product(kind) for kind in written.types if kind in MATCHER_TYPES),
                regions=tuple(dict.fromkeys(written.regions)),
                tags={key: tuple(values) for key, values in written.tags.items()},
                role_arn=written.assume_role_arn,
                external_id=written.external_id or (link.external_id if link else Secret("")),
                session_duration_seconds=link.session_duration_seconds if link else 3600,
            )
        )
    return tuple(found)


def check_matchers(section: DbService, links: AccountLinks) -> Iterator[Finding]:
    """What concerns a matcher and its link, its regions, or another matcher."""
    first: dict[str, tuple[int, Secret]] = {}
    for index, written in enumerate(section.aws):
        arn, own = written.assume_role_arn, written.external_id
        yield from _regions(written)
        if not arn:
            continue
        covering = links.covering(arn)
        link = links.find(arn, Origin.DISCOVERED)
        if covering and link is None:
            message = f"account link {covering[0].name!r} names {arn}, but not for discovered databases"
            yield Finding(written.at("assume_role_arn"), message, "add `discovered` to the link's `for`")
        if own and link and link.external_id != own:
            message = f"the matcher and account link {link.name!r} name different external IDs for {arn}"
            yield Finding(written.at("external_id"), message, "keep one of the two")
        external_id = own or (link.external_id if link else Secret(""))
        other, theirs = first.setdefault(arn, (index, external_id))
        if theirs != external_id:
            message = f"aws[{other}] names another external ID (or none) for the same role"
            yield Finding(written.at("external_id"), message, "a role has one: an account link keeps it in one place")


def _regions(written: MatcherSection) -> Iterator[Finding]:
    try:
        partition = parse_role_arn(written.assume_role_arn).partition
    except ValueError:
        return
    for index, region in enumerate(written.regions):
        theirs = partition_of_region(region)
        if theirs and theirs != partition:
            message = f"region {region} is in partition {theirs}, the role in {partition}"
            yield Finding(written.at("regions", index), message, "roles cannot be assumed across partitions")
