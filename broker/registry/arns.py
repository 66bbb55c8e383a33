"""Role ARNs, account IDs, regions and partitions. PURE."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A part of AWS that shares nothing with the others: neither identities nor DNS names."""

    name: str
    regions: re.Pattern[str]
    dns_suffix: str
    api_suffix: str
    """Of dual-stack endpoints."""
    on_suffix: str
    """Of the newer services' endpoints."""


def _partition(name: str, regions: str, dns_suffix: str, api_suffix: str, on_suffix: str) -> Partition:
    return Partition(
        name=name,
        regions=re.compile(regions, re.ASCII),
        dns_suffix=dns_suffix,
        api_suffix=api_suffix,
        on_suffix=on_suffix,
    )


PARTITIONS: Final = (
    _partition("aws", r"(us|eu|ap|sa|ca|me|af|il|mx)-[a-z]+-\d{1,2}", "amazonaws.com", "api.aws", "on.aws"),
    _partition(
        "aws-cn",
        r"cn-[a-z]+-\d{1,2}",
        "amazonaws.com.cn",
        "api.amazonwebservices.com.cn",
        "on.amazonwebservices.com.cn",
    ),
    _partition("aws-us-gov", r"us-gov-[a-z]+-\d{1,2}", "amazonaws.com", "api.aws", "on.aws"),
    _partition(
        "aws-eusc", r"eusc-de-[a-z]+-\d{1,2}", "amazonaws.eu", "api.amazonwebservices.eu", "on.amazonwebservices.eu"
    ),
    _partition("aws-iso", r"us-iso-[a-z]+-\d{1,2}", "c2s.ic.gov", "api.aws.ic.gov", "on.aws.ic.gov"),
    _partition("aws-iso-b", r"us-isob-[a-z]+-\d{1,2}", "sc2s.sgov.gov", "api.aws.scloud", "on.aws.scloud"),
    _partition(
        "aws-iso-e", r"eu-isoe-[a-z]+-\d{1,2}", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk", "on.cloud-aws.adc-e.uk"
    ),
    _partition("aws-iso-f", r"us-isof-[a-z]+-\d{1,2}", "csp.hci.ic.gov", "api.aws.hci.ic.gov", "on.aws.hci.ic.gov"),
)
"""As in botocore's partitions.json. Regions are told by their form, so a region opened tomorrow works."""

_ACCOUNT_ID: Final = re.compile(r"\d{12}", re.ASCII)
_ROLE_NAME: Final = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_ROLE_PATH: Final = re.compile(r"([!-~]*/)?", re.ASCII)
_MAX_ARN_CHARS: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRole:
    """What an IAM role's ARN says."""

    arn: str
    partition: str
    account_id: str
    path: str
    """With both slashes, `/` when the role has none."""
    name: str


def partition_of_region(region: str) -> str:
    """Name of the partition a region belongs to by its form; empty when it looks like no region of AWS."""
    for partition in PARTITIONS:
        if partition.regions.fullmatch(region):
            return partition.name
    return ""


def is_account_id(text: str) -> bool:
    """Whether it is twelve digits."""
    return _ACCOUNT_ID.fullmatch(text) is not None


def parse_role_arn(arn: str) -> ParsedRole:
    """Parse `arn:PARTITION:iam::ACCOUNT:role/[PATH/]NAME`. Raises ValueError with what is wrong with it."""
    if len(arn) > _MAX_ARN_CHARS:
        raise ValueError(f"it is longer than {_MAX_ARN_CHARS} characters")
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn":
        raise ValueError("it is not an ARN")
    _, partition, service, region, account_id, resource = parts
    if partition not in {known.name for known in PARTITIONS}:
        raise ValueError(f"{partition!r} is not a partition of AWS")
    if service == "sts" and resource.startswith("assumed-role/"):
        raise ValueError("it names a session of a role, not the role: write arn:...:iam::ACCOUNT:role/NAME")
    kind, slash, rest = resource.partition("/")
    if service != "iam" or region or kind != "role" or not slash:
        raise ValueError("it is not the ARN of an IAM role")
    if not is_account_id(account_id):
        raise ValueError("its account ID must be 12 digits")
    path, slash, name = rest.rpartition("/")
    if slash and not path:
        raise ValueError("its path is empty: write role/NAME")
    path = f"/{path}/" if path else "/"
    if not name:
        raise ValueError("it is missing the IAM role name")
    if not _ROLE_NAME.fullmatch(name) or not _ROLE_PATH.fullmatch(path[1:]):
        raise ValueError("its role name holds characters that IAM does not allow")
    return ParsedRole(arn=arn, partition=partition, account_id=account_id, path=path, name=name)
