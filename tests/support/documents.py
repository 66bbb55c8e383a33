"""`kind: db` documents."""

from __future__ import annotations

from typing import Any, Final

import yaml

THE_PAGES: Final = """\
kind: db
version: v3
metadata:
  name: "rds-postgres"
  description: "Example dynamic database resource"
  labels:
    env: "dev"
spec:
  protocol: "postgres"
  uri: "rds-postgres.abcdef012345.us-west-1.rds.amazonaws.com:5432"
  aws:
    # Note that account_id must match the AWS account ID in `assume_role_arn`.
    # Dynamic database resources do not derive `account_id` from
    # `assume_role_arn` automatically (unlike static configuration).
    account_id: "222222222222"
    assume_role_arn: "arn:aws:iam::222222222222:role/example-role"
    external_id: "example-external-id"
"""
"""The dynamic resource of the cross-account page, word for word."""


def document(name: str = "rds-postgres", **changes: Any) -> str:
    """The page's resource, perhaps under another name; `changes` by path: `spec__aws__account_id`; None removes."""
    content = yaml.safe_load(THE_PAGES)
    content["metadata"]["name"] = name
    for path, value in changes.items():
        *blocks, key = path.split("__")
        block = content
        for part in blocks:
            block = block.setdefault(part, {})
        if value is None:
            block.pop(key, None)
        else:
            block[key] = value
    return yaml.safe_dump(content, sort_keys=False)
