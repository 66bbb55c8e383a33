"""An AWS API call as it arrives: whose key signed it, for which service, and what it asks. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/(\d{8})/([^/,\s]+)/([^/,\s]+)/aws4_request")

# Query APIs share one path; the version in the form tells which service a call is meant for.
_SERVICE_BY_VERSION = {
    "2010-05-08": "iam",
    "2011-06-15": "sts",
    "2012-12-01": "redshift",
    "2014-10-31": "rds",
    "2015-02-02": "elasticache",
}
# JSON APIs name service and action in one header.
_SERVICE_BY_TARGET = {
    "AWSSecurityTokenServiceV20110615": "sts",
    "AmazonMemoryDB": "memorydb",
    "DynamoDBStreams_20120810": "dynamodb",
    "DynamoDB_20120810": "dynamodb",
    "RedshiftServerless": "redshift-serverless",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request. ``service`` is None where neither form nor header says; keys absent from ``parameters`` are None."""

    service: str | None
    action: str | None
    access_key_id: str | None
    signed_service: str | None
    is_json: bool
    parameters: Mapping[str, str]
    signed_region: str | None = None
    host: str = ""
    """Without a port."""
    target: str = ""
    """X-Amz-Target up to the action."""

    @property
    def name(self) -> str:
        """``service:action`` as policies write it; what counters and faults go by."""
        return f"{self.service or self.signed_service or 'unknown'}:{self.action or 'unknown'}"

    @property
    def role_arn(self) -> str | None:
        return self.parameters.get("RoleArn")


def parse_call(headers: Mapping[str, str], query_string: str, body: bytes) -> Call:
    """Never raises: a call that cannot be understood has None where the answer would be. Header names in lower case."""
    parameters = _first_values(query_string)
    target, _, target_action = headers.get("x-amz-target", "").rpartition(".")
    is_json = "json" in headers.get("content-type", "")
    if is_json:
        parameters.update(_json_strings(body))
        service, action = _SERVICE_BY_TARGET.get(target.partition(".")[0]), target_action or None
    else:
        if "form-urlencoded" in headers.get("content-type", ""):
            parameters.update(_first_values(body.decode("utf-8", "replace")))
        service, action = _SERVICE_BY_VERSION.get(parameters.get("Version", "")), parameters.get("Action")
    key, signed_region, signed_service = _signer(
        headers.get("authorization", ""), parameters.get("X-Amz-Credential", "")
    )
    return Call(
        service=service,
        action=action,
        access_key_id=key,
        signed_service=signed_service,
        is_json=is_json,
        parameters=parameters,
        signed_region=signed_region,
        host=headers.get("host", "").partition(":")[0],
        target=target,
    )


def _signer(authorization: str, presigned_credential: str) -> tuple[str | None, str | None, str | None]:
    found = _CREDENTIAL.search(authorization) or _CREDENTIAL.fullmatch(f"Credential={presigned_credential}")
    return (found[1], found[3], found[4]) if found else (None, None, None)


def _first_values(form: str) -> dict[str, str]:
    # Of a repeated field AWS takes the first.
    return {name: values[0] for name, values in parse_qs(form, keep_blank_values=True).items()}


def _json_strings(body: bytes) -> dict[str, str]:
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        return {}
    if not isinstance(document, dict):
        return {}
    return {name: str(value) for name, value in document.items() if isinstance(value, str | int)}
