"""Whatever a host looks like: no crash, and what is recognised belongs to AWS and to one partition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.registry.arns import PARTITIONS, partition_of_region
from broker.registry.endpoints import parse_endpoint
from tollbridge.model import Product

REGIONS = [
    "us-west-1",
    "eu-central-1",
    "us-gov-west-1",
    "cn-north-1",
    "eusc-de-east-1",
    "us-iso-east-1",
    "moon-1",
    "use1",
]
SUFFIXES = [suffix for p in PARTITIONS for suffix in (p.dns_suffix, p.api_suffix, p.on_suffix)] + ["evil.example"]
WORDS = ["rds", "docdb", "cache", "memorydb", "redshift", "redshift-serverless", "dynamodb", "ddb", "cassandra", "es"]
WORDS += ["aoss", "aos", "dsql", "proxy-ab1", "cluster-ab1", "cluster-ro-ab1", "endpoint", "clustercfg", "serverless"]

names = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
hashes = st.from_regex(r"[a-z0-9]{6,16}", fullmatch=True)
regions = st.sampled_from(["us-west-1", "eu-central-1", "ap-southeast-2", "us-gov-east-1"])
soup = st.lists(st.sampled_from(WORDS + REGIONS) | names, min_size=1, max_size=6)


@given(st.text(max_size=300))
def test_no_text_crashes_it(host: str) -> None:
    parse_endpoint(host)


@given(soup, st.sampled_from(SUFFIXES))
def test_what_is_recognised_belongs_to_one_partition(labels: list[str], suffix: str) -> None:
    host = ".".join((*labels, suffix))
    found = parse_endpoint(host)
    if found is None:
        return
    partition = next(p for p in PARTITIONS if p.name == found.partition)
    assert host.endswith((f".{partition.dns_suffix}", f".{partition.api_suffix}", f".{partition.on_suffix}"))
    assert partition_of_region(found.region) == found.partition
    assert found.host == host
    assert all(found.ids.values())


@given(names, hashes, regions, st.sampled_from(["", "cluster-", "cluster-ro-", "proxy-"]))
def test_every_rds_name_gives_back_its_parts(name: str, mark: str, region: str, kind: str) -> None:
    found = parse_endpoint(f"{name}.{kind}{mark}.{region}.rds.amazonaws.com")
    assert found is not None
    assert found.region == region
    assert found.product is (Product.RDSPROXY if kind == "proxy-" else Product.RDS)
    assert list(found.ids.values()) == [name]


@given(names, hashes, regions, st.sampled_from(["evil.example", "com", "amazonaws.com.evil.example"]))
def test_no_suffix_but_awss_own_is_recognised(name: str, mark: str, region: str, tail: str) -> None:
    assert parse_endpoint(f"{name}.{mark}.{region}.rds.amazonaws.com.{tail}") is None
