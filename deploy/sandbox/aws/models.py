"""Calls and answers of a service by botocore's model of it, from the server's side: query and JSON protocols.

Enough for the calls that ``redshift`` answers. An input is checked as botocore checks it before it signs.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any
from xml.sax.saxutils import escape

import botocore.session
from botocore.exceptions import ParamValidationError
from botocore.model import OperationModel, OperationNotFoundError, ServiceModel, Shape
from botocore.validate import ParamValidator

Values = dict[str, Any]


class BadInput(Exception):
    """The call is not what the model says; the message is botocore's."""


class UnknownOperation(Exception):
    """The service has no such operation."""


@cache
def service(name: str) -> ServiceModel:
    """Reads files the first time."""
    return botocore.session.Session().get_service_model(name)


def operation(service_name: str, action: str | None) -> OperationModel:
    """Raises UnknownOperation."""
    try:
        return service(service_name).operation_model(action or "")
    except OperationNotFoundError as error:
        raise UnknownOperation(str(action)) from error


def parse_query(call: OperationModel, form: Mapping[str, str]) -> Values:
    """Parameters of a query call. Raises BadInput."""
    given: Values = {}
    for name, shape in call.input_shape.members.items():
        if shape.type_name == "list":
            numbered = re.compile(rf"{name}(?:\.\w+)?\.(\d+)")
            items = {int(found[1]): value for key, value in form.items() if (found := numbered.fullmatch(key))}
            if items:
                given[name] = [items[number] for number in sorted(items)]
        elif name in form:
            given[name] = _scalar(name, shape, form[name])
    return _checked(call, given)


def parse_json(call: OperationModel, body: bytes) -> Values:
    """Parameters of a JSON call. Raises BadInput."""
    try:
        given = json.loads(body or b"{}")
    except ValueError as error:
        raise BadInput("the body is no JSON") from error
    if not isinstance(given, dict):
        raise BadInput("the body is no JSON object")
    return _checked(call, {name: value for name, value in given.items() if name in call.input_shape.members})


def shaped(shape: Shape, value: Any) -> Any:
    """The value without members that the model does not know."""
    if shape.type_name == "structure" and isinstance(value, dict):
        return {
            name: shaped(inner, value[name]) for name, inner in shape.members.items() if value.get(name) is not None
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [shaped(shape.member, item) for item in value]
    return value


def render_query(call: OperationModel, answer: Values, request_id: str) -> bytes:
    """The answer as XML."""
    result = call.output_shape.serialization["resultWrapper"]
    inner = "".join(_xml(name, shape, answer.get(name)) for name, shape in call.output_shape.members.items())
    return (
        f'<{call.name}Response xmlns="{call.service_model.metadata["xmlNamespace"]}"><{result}>{inner}</{result}>'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{call.name}Response>"
    ).encode()


def render_json(call: OperationModel, answer: Values) -> bytes:
    """The answer as JSON; times in seconds since 1970."""
    known = {name: value for name, value in answer.items() if name in call.output_shape.members}
    return json.dumps({n: v.timestamp() if isinstance(v, datetime) else v for n, v in known.items()}).encode()


def _scalar(name: str, shape: Shape, text: str) -> object:
    if shape.type_name == "boolean":
        return text.lower() == "true"
    if shape.type_name == "integer":
        if not re.fullmatch(r"-?\d{1,9}", text):
            raise BadInput(f"{name} must be an integer")
        return int(text)
    return text


def _checked(call: OperationModel, given: Values) -> Values:
    report = ParamValidator().validate(given, call.input_shape)
    if report.has_errors():
        raise BadInput(str(ParamValidationError(report=report.generate_report())))
    return given


def _xml(name: str, shape: Shape, value: object) -> str:
    if value is None:
        return ""
    name = shape.serialization.get("name", name)
    if shape.type_name == "structure" and isinstance(value, dict):
        text = "".join(_xml(member, inner, value.get(member)) for member, inner in shape.members.items())
    elif shape.type_name == "list" and isinstance(value, list):
        text = "".join(_xml("member", shape.member, item) for item in value)
    elif isinstance(value, datetime):
        text = value.strftime("%Y-%m-%dT%H:%M:%SZ")
    elif isinstance(value, bool):
        text = str(value).lower()
    else:
        text = escape(str(value))
    return f"<{name}>{text}</{name}>"
