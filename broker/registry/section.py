"""`registry:` of the configuration."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from broker.registry.arns import partition_of_region
from broker.teleport import REGION_HINT
from tollbridge.process.settings import Finding, Section


class DynamoDbSection(Section):
    """`registry.dynamodb:` the table that several brokers share."""

    table: str = Field(default="", pattern=r"^([A-Za-z0-9_.-]{3,255})?$", description="Name of the table.")
    region: str = Field(default="", description="Region of the table. Empty: aws.region.")
    create_table: bool = Field(
        default=False, description="Create the table when it does not exist (needs dynamodb:CreateTable)."
    )

    def findings(self) -> Iterable[Finding]:
        """A region, if any, is one; options belong to a table."""
        if self.region and not partition_of_region(self.region):
            yield Finding(self.at("region"), f"{self.region!r} is not a region of AWS", REGION_HINT)
        if not self.table and (self.region or self.create_table):
            yield Finding(self.at("table"), "is required", "such as tollbridge")


class RegistrySection(Section):
    """`registry:` where dynamic and discovered databases are kept."""

    file: str = Field(
        default="/var/lib/tollbridge/registry.db",
        description="SQLite file, made when needed, readable by its owner alone. With dynamodb: the copy that is used "
        "while the table cannot be reached.",
    )
    dynamodb: DynamoDbSection = Field(
        default_factory=DynamoDbSection, description="For several brokers: a table in the broker's own account."
    )

    def findings(self) -> Iterable[Finding]:
        """A path that does not depend on where the broker was started."""
        if not self.file.startswith("/"):
            message = f"must be an absolute path, not {self.file!r}"
            yield Finding(self.at("file"), message, "such as /var/lib/tollbridge/registry.db")
