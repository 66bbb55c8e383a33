"""Policies as JSON, Terraform or CloudFormation. PURE."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

import yaml

from broker.policies.documents import Audience, Document

FORMATS: Final = ("json", "terraform", "cloudformation")


def render(documents: Sequence[Document], form: str) -> str:
    """Text that the tool takes as it stands; a note where a value is yours to fill in."""
    if form == "terraform":
        return "\n".join(_terraform(document) for document in documents)
    if form == "cloudformation":
        return _cloudformation(documents)
    return as_json(documents)


def as_json(documents: Sequence[Document]) -> str:
    """One policy as it stands; several as a list that says which is for whom."""
    if len(documents) == 1:
        return json.dumps(documents[0].policy, indent=4) + "\n"
    listed = [
        {"for": document.audience, "attach_to": document.attach_to, "name": document.name, "policy": document.policy}
        for document in documents
    ]
    return json.dumps(listed, indent=4) + "\n"


def _terraform(document: Document) -> str:
    label = _label(document.name)
    body = _hcl(json.dumps(document.policy, indent=2))
    owner = document.attach_to.rsplit("/", 1)[-1]
    if document.audience is Audience.TRUST:
        body = body.replace("\n", "\n  ")
        path = _path(document.attach_to)
        return (
            f'resource "aws_iam_role" "{_label(owner) or "role"}" {{\n'
            f"  name               = {json.dumps(owner or 'NAME-OF-THE-ROLE')}\n"
            + (f"  path               = {json.dumps(path)}\n" if path != "/" else "")
            + f"  assume_role_policy = jsonencode({body})\n}}\n"
        )
    indented = body.replace("\n", "\n  ")
    text = (
        f'resource "aws_iam_policy" "{label}" {{\n'
        f"  name   = {json.dumps(document.name)}\n"
        f"  policy = jsonencode({indented})\n}}\n"
    )
    if document.audience is Audience.BOUNDARY:
        return text + f"# On the role: permissions_boundary = aws_iam_policy.{label}.arn\n"
    if not owner:
        return text
    kind = "user" if ":user/" in document.attach_to else "role"
    return text + (
        f'\nresource "aws_iam_{kind}_policy_attachment" "{label}" {{\n'
        f"  {kind:<10} = {json.dumps(owner)}\n"
        f"  policy_arn = aws_iam_policy.{label}.arn\n}}\n"
    )


def _hcl(text: str) -> str:
    """JSON is an expression of HCL, but for what begins a template inside its texts."""
    return text.replace("${", "$${").replace("%{", "%%{")


def _cloudformation(documents: Sequence[Document]) -> str:
    resources: dict[str, Any] = {}
    for document in documents:
        owner = document.attach_to.rsplit("/", 1)[-1]
        properties: dict[str, Any]
        if document.audience is Audience.TRUST:
            properties = {"AssumeRolePolicyDocument": document.policy}
            kind = "AWS::IAM::Role"
            if owner:
                properties = {"RoleName": owner, "Path": _path(document.attach_to), **properties}
        else:
            kind = "AWS::IAM::ManagedPolicy"
            properties = {"ManagedPolicyName": document.name, "PolicyDocument": document.policy}
            if owner and document.audience is not Audience.BOUNDARY:
                properties["Users" if ":user/" in document.attach_to else "Roles"] = [owner]
        resources[_logical_id(document.name)] = {"Type": kind, "Properties": properties}
    template = {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}
    # Through JSON: equal lists must not become aliases, which CloudFormation does not follow.
    plain = json.loads(json.dumps(template))
    return yaml.safe_dump(plain, sort_keys=False, width=120)


def _path(arn: str) -> str:
    """Of a role's ARN: `/`, or `/PATH/`."""
    return "/" + "".join(f"{part}/" for part in arn.split("/")[1:-1])


def _label(name: str) -> str:
    label = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"_{label}" if label[:1].isdigit() else label


def _logical_id(name: str) -> str:
    words = re.split(r"[^0-9A-Za-z]+", name)
    return "".join(word[:1].upper() + word[1:] for word in words)
