"""Role ARNs and regions."""

from __future__ import annotations

import pytest

from broker.registry.arns import parse_role_arn, partition_of_region


def test_a_role_with_a_path() -> None:
    role = parse_role_arn("arn:aws-us-gov:iam::222222222222:role/team/shop/reader+1")
    assert (role.partition, role.account_id, role.path, role.name) == (
        "aws-us-gov",
        "222222222222",
        "/team/shop/",
        "reader+1",
    )


def test_a_role_without_a_path() -> None:
    role = parse_role_arn("arn:aws:iam::222222222222:role/example-role")
    assert (role.path, role.name) == ("/", "example-role")


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "role/x",
        "arn:aws:iam::222222222222:role",
        "arn:aws:iam::222222222222:role/",
        "arn:aws:iam::222222222222:role//x",
        "arn:aws:iam::222222222222:role/a/",
        "arn:aws:iam::222222222222:user/x",
        "arn:aws:iam::222222222222:rolex/x",
        "arn:aws:iam:us-east-1:222222222222:role/x",
        "arn:aws:sts::222222222222:assumed-role/x/y",
        "arn:aws:iam::22222222222:role/x",
        "arn:aws:iam::٢٢٢٢٢٢٢٢٢٢٢٢:role/x",
        "arn:aws2:iam::222222222222:role/x",
        "arn:aws:iam::222222222222:role/x y",
        "arn:aws:iam::222222222222:role/x\n",
        "arn:aws:iam::222222222222:role/*",
        "arn:aws:iam::222222222222:role/" + "x" * 65,
        "arn:aws:iam::222222222222:role/" + "x/" * 1100 + "y",
        " arn:aws:iam::222222222222:role/x",
    ],
)
def test_what_is_no_role(arn: str) -> None:
    with pytest.raises(ValueError, match=r"it is|its|it names|partition"):
        parse_role_arn(arn)


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("us-west-1", "aws"),
        ("ap-southeast-7", "aws"),
        ("il-central-1", "aws"),
        ("us-gov-west-1", "aws-us-gov"),
        ("cn-northwest-1", "aws-cn"),
        ("eusc-de-east-1", "aws-eusc"),
        ("us-isob-east-1", "aws-iso-b"),
        ("us-west-1a", ""),
        ("us-west", ""),
        ("US-WEST-1", ""),
        ("us-west-1\n", ""),
        ("", ""),
    ],
)
def test_partition_of_a_region(region: str, partition: str) -> None:
    assert partition_of_region(region) == partition
