"""STS, container credentials and IMDS on one loopback port, strict where AWS is. Checks signatures by its own code."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.support.clock import FakeClock

BASE_ARN = "arn:aws:sts::111111111111:assumed-role/broker/i-1"
BROKER_USER = "arn:aws:iam::111111111111:user/broker"
ROLE = "arn:aws:iam::222222222222:role/access"
EXTERNAL_ID = "ext-id-of-the-link"


@dataclass
class Keys:
    secret: str
    token: str
    arn: str


@dataclass
class Answer:
    """A prepared answer to the next call."""

    status: int
    code: str = ""
    message: str = ""
    body: bytes | None = None


@dataclass
class Aws:
    """The state behind the port."""

    clock: FakeClock
    keys: dict[str, Keys] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=lambda: {ROLE: EXTERNAL_ID})
    answers: list[Answer] = field(default_factory=list)
    ahead_seconds: float = 0.0
    calls: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""
    serial: int = 0

    def __post_init__(self) -> None:
        self.keys["AKIABASE"] = Keys("base-secret", "", BROKER_USER)

    @property
    def now(self) -> datetime:
        return self.clock.now() + timedelta(seconds=self.ahead_seconds)

    def new_keys(self, arn: str) -> tuple[str, Keys]:
        self.serial += 1
        keys = Keys(f"made-secret-{self.serial}", f"made-token/{self.serial}+=", arn)
        key_id = f"ASIAMADE{self.serial:08d}"
        self.keys[key_id] = keys
        return key_id, keys

    def provider_json(self, arn: str = BASE_ARN) -> bytes:
        key_id, keys = self.new_keys(arn)
        expiration = (self.now + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return json.dumps(
            {
                "Code": "Success",
                "Type": "AWS-HMAC",
                "AccessKeyId": key_id,
                "SecretAccessKey": keys.secret,
                "Token": keys.token,
                "Expiration": expiration,
            }
        ).encode()

    def sts(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        call = dict(parse_qsl(body.decode(), keep_blank_values=True))
        self.calls.append(call)
        if self.answers:
            answer = self.answers.pop(0)
            return answer.status, answer.body or error(answer.code, answer.message)
        if call["Action"] == "AssumeRoleWithWebIdentity":
            if call["WebIdentityToken"] != "a-token":
                return 400, error("InvalidIdentityToken", "no")
            return 200, self.assumed(call, "AssumeRoleWithWebIdentity")
        refused, arn = self.authenticate(handler, body)
        if refused:
            return 403, error(refused, "refused")
        if call["Action"] == "GetCallerIdentity":
            text = f"<Arn>{arn}</Arn><UserId>U</UserId><Account>{arn.split(':')[4]}</Account>"
            return 200, result("GetCallerIdentity", text)
        if self.roles.get(call["RoleArn"]) != call.get("ExternalId", ""):
            return 403, error("AccessDenied", f"User: {arn} is not authorized to perform: sts:AssumeRole")
        return 200, self.assumed(call, "AssumeRole")

    def assumed(self, call: dict[str, str], action: str) -> bytes:
        account, name = call["RoleArn"].split(":")[4], call["RoleArn"].split("/")[-1]
        arn = f"arn:aws:sts::{account}:assumed-role/{name}/{call['RoleSessionName']}"
        key_id, keys = self.new_keys(arn)
        end = self.now + timedelta(seconds=int(call.get("DurationSeconds", "3600")))
        return result(
            action,
            f"<AssumedRoleUser><Arn>{arn}</Arn><AssumedRoleId>A:b</AssumedRoleId></AssumedRoleUser><Credentials>"
            f"<AccessKeyId>{key_id}</AccessKeyId><SecretAccessKey>{keys.secret}</SecretAccessKey>"
            f"<SessionToken>{keys.token}</SessionToken><Expiration>{end.strftime('%Y-%m-%dT%H:%M:%SZ')}</Expiration>"
            "</Credentials>",
        )

    def authenticate(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[str, str]:
        """(refusal, arn)"""
        fields = dict(
            part.strip().split("=", 1)
            for part in handler.headers["Authorization"].removeprefix("AWS4-HMAC-SHA256 ").split(",")
        )
        key_id, date, region, service, end = fields["Credential"].split("/")
        keys = self.keys.get(key_id)
        if keys is None or handler.headers.get("X-Amz-Security-Token", "") != keys.token:
            return "InvalidClientTokenId", ""
        stamp = handler.headers["X-Amz-Date"]
        at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs((at - self.now).total_seconds()) > 300:
            return "SignatureDoesNotMatch", ""
        names = fields["SignedHeaders"].split(";")
        headers = "".join(f"{name}:{' '.join(handler.headers[name].split())}\n" for name in names)
        canonical = f"POST\n/\n\n{headers}\n{';'.join(names)}\n{hashlib.sha256(body).hexdigest()}"
        scope = f"{date}/{region}/{service}/{end}"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{keys.secret}".encode()
        for part in (date, region, service, end):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        good = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        if "x-amz-date" not in names or service != "sts" or good != fields["Signature"]:
            return "SignatureDoesNotMatch", ""
        return "", keys.arn


def result(action: str, inner: str) -> bytes:
    return (
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>{inner}</{action}Result>'
        f"<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
    ).encode()


def error(code: str, message: str) -> bytes:
    return (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    ).encode()


@contextmanager
def running(clock: FakeClock) -> Iterator[Aws]:
    """The stub, listening."""
    aws = Aws(clock)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(aws.now.timestamp())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(*aws.sts(self, body))

        def do_PUT(self) -> None:
            aws.paths.append(self.path)
            self.answer(200, b"imds-token")

        def do_GET(self) -> None:
            aws.paths.append(self.path)
            path = urlsplit(self.path).path
            if path == "/container":
                ok = self.headers["Authorization"] == "container-token"
                self.answer(200 if ok else 403, aws.provider_json() if ok else b"{}")
            elif path.endswith("/security-credentials/"):
                self.answer(200, b"broker")
            elif path.endswith("/security-credentials/broker"):
                ok = self.headers["X-aws-ec2-metadata-token"] == "imds-token"
                self.answer(200 if ok else 401, aws.provider_json() if ok else b"")
            else:
                self.answer(404, b"")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    aws.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield aws
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
