"""Redshift's APIs on one loopback port, strict where AWS is: signatures are checked by code of its own.

Provisioned clusters speak the query protocol (forms in, XML out), Redshift Serverless JSON 1.1.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

_VERSION = "2012-12-01"
_TARGET = "RedshiftServerless.GetCredentials"
_SKEW_SECONDS = 300


@dataclass
class Identity:
    """Whose keys they are."""

    secret: str
    token: str
    role: str


@dataclass
class Fault:
    """A prepared answer to the next call."""

    status: int
    code: str
    message: str = "why"
    body: bytes | None = None


@dataclass
class Seen:
    """A call whose signature was right."""

    operation: str
    region: str
    role: str
    params: dict[str, Any]


@dataclass
class RedshiftApi:
    """The state behind the port."""

    now: Callable[[], datetime]
    keys: dict[str, Identity] = field(default_factory=dict)
    clusters: set[str] = field(default_factory=lambda: {"wh"})
    workgroups: set[str] = field(default_factory=lambda: {"wg-1"})
    denied_roles: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    url: str = ""
    serial: int = 0

    def add(self, key_id: str, secret: str, token: str, role: str) -> None:
        """Let keys in."""
        self.keys[key_id] = Identity(secret, token, role)

    def answer(self, headers: Any, body: bytes) -> tuple[int, bytes]:
        """Status and body."""
        is_json = "X-Amz-Target" in headers
        say = _json_error if is_json else _xml_error
        if self.faults:
            fault = self.faults.pop(0)
            return fault.status, say(fault.code, fault.message) if fault.body is None else fault.body
        refused, identity, region = self._authenticate(headers, body, "redshift-serverless" if is_json else "redshift")
        if identity is None:
            return 403, say(refused, "not signed as it should be")
        if identity.role in self.denied_roles:
            return (400 if is_json else 403), say("AccessDeniedException" if is_json else "AccessDenied", "not allowed")
        if is_json:
            return self._workgroup(headers["X-Amz-Target"], json.loads(body), identity, region)
        return self._cluster(dict(parse_qsl(body.decode(), keep_blank_values=True)), identity, region)

    def _cluster(self, form: dict[str, str], identity: Identity, region: str) -> tuple[int, bytes]:
        operation = form.pop("Action")
        if form.pop("Version") != _VERSION:
            return 400, _xml_error("InvalidAction", "version")
        self.seen.append(Seen(operation, region, identity.role, form))
        if form["ClusterIdentifier"] not in self.clusters:
            return 404, _xml_error("ClusterNotFound", f"Cluster {form['ClusterIdentifier']} not found.")
        if operation == "GetClusterCredentials":
            prefix = "IAMA" if form.get("AutoCreate") == "true" else "IAM"
            user = f"{prefix}:{form['DbUser']}"
        else:
            user = f"IAMR:{identity.role}"
        password, end = self._made(int(form.get("DurationSeconds", "900")))
        inner = f"<DbUser>{escape(user)}</DbUser><DbPassword>{escape(password)}</DbPassword>"
        inner += f"<Expiration>{end:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
        if operation.endswith("WithIAM"):
            inner += f"<NextRefreshTime>{end:%Y-%m-%dT%H:%M:%SZ}</NextRefreshTime>"
        return 200, _xml(operation, inner)

    def _workgroup(self, target: str, params: dict[str, Any], identity: Identity, region: str) -> tuple[int, bytes]:
        if target != _TARGET:
            return 400, _json_error("UnknownOperationException", target)
        self.seen.append(Seen("GetCredentials", region, identity.role, params))
        if params["workgroupName"] not in self.workgroups:
            return 400, _json_error("ResourceNotFoundException", "no such workgroup")
        password, end = self._made(params.get("durationSeconds", 900))
        said = {"dbUser": f"IAMR:{identity.role}", "dbPassword": password, "expiration": end.timestamp()}
        return 200, json.dumps(said).encode()

    def _made(self, seconds: int) -> tuple[str, datetime]:
        self.serial += 1
        return f"made/{self.serial}<&>+=é", self.now().replace(microsecond=0) + timedelta(seconds=seconds)

    def _authenticate(self, headers: Any, body: bytes, service: str) -> tuple[str, Identity | None, str]:
        given = headers["Authorization"].removeprefix("AWS4-HMAC-SHA256 ")
        fields = dict(part.strip().split("=", 1) for part in given.split(","))
        key_id, date, region, named, end = fields["Credential"].split("/")
        identity = self.keys.get(key_id)
        if identity is None or headers.get("X-Amz-Security-Token", "") != identity.token:
            return "UnrecognizedClientException", None, region
        stamp = headers["X-Amz-Date"]
        at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs((at - self.now()).total_seconds()) > _SKEW_SECONDS:
            return "RequestExpired", None, region
        names = fields["SignedHeaders"].split(";")
        lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names)
        canonical = f"POST\n/\n\n{lines}\n{';'.join(names)}\n{hashlib.sha256(body).hexdigest()}"
        scope = f"{date}/{region}/{named}/{end}"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{identity.secret}".encode()
        for part in (date, region, named, end):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        good = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        if named != service or not {"host", "x-amz-date"} <= set(names) or good != fields["Signature"]:
            return "SignatureDoesNotMatch", None, region
        return "", identity, region


def _xml(operation: str, inner: str) -> bytes:
    space = f"http://redshift.amazonaws.com/doc/{_VERSION}/"
    return (
        f'<{operation}Response xmlns="{space}"><{operation}Result>{inner}</{operation}Result>'
        f"<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{operation}Response>"
    ).encode()


def _xml_error(code: str, message: str) -> bytes:
    return (
        f'<ErrorResponse xmlns="http://redshift.amazonaws.com/doc/{_VERSION}/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{escape(message)}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    ).encode()


def _json_error(code: str, message: str) -> bytes:
    return json.dumps({"__type": code, "message": message}).encode()


@contextmanager
def running(now: Callable[[], datetime]) -> Iterator[RedshiftApi]:
    """The stub, listening."""
    api = RedshiftApi(now)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(api.now().timestamp())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

        def do_POST(self) -> None:
            status, body = api.answer(self.headers, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            kind = "application/x-amz-json-1.1" if "X-Amz-Target" in self.headers else "text/xml"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
