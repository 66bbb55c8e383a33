"""Signed HTTP in the tests: what botocore sends, and how a name of AWS's leads to this machine."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from deploy.sandbox import topology
from deploy.sandbox.world import World
from tests.e2e.roles import Role

USER: Final = "role/DatabaseUserRole"
"""A database user, in the place of an access key id."""


def dummy_session(user: str = USER) -> Any:
    """boto3's, with the user for a key and nothing for a secret."""
    return boto3.session.Session(aws_access_key_id=user, aws_secret_access_key="anything")


def authorization(service: str = "es", user: str = USER) -> str:
    """Just enough of a header to say who one wants to be."""
    scope = f"{user}/20260115/{topology.REGION}/{service}/aws4_request"
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={'0' * 64}"


@contextlib.contextmanager
def on_this_machine(world: World) -> Iterator[None]:
    """AWS's names lead to the sandbox, for whoever asks the resolver of this process. TLS names stay AWS's."""
    resolve = socket.getaddrinfo

    def resolved(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        where = world.dial.get(f"{host}:{port}")
        if where is None:
            return resolve(host, port, *more, **named)
        address, _, local_port = where.partition(":")
        return resolve(address, int(local_port), *more, **named)

    socket.getaddrinfo = resolved
    try:
        yield
    finally:
        socket.getaddrinfo = resolve


def ask(
    world: World,
    role: Role,
    url: str,
    *,
    method: str = "GET",
    body: bytes = b"",
    service: str = "es",
    headers: dict[str, str] | None = None,
) -> urllib3.BaseHTTPResponse:
    """One request that botocore signs, sent as it was signed. Inside of ``on_this_machine``."""
    given = {"Host": urlsplit(url).netloc, **(headers or {})}
    request = AWSRequest(method, url, data=body, headers=given)
    credentials = role.session.get_credentials().get_frozen_credentials()
    SigV4Auth(credentials, service, world.region).add_auth(request)
    with urllib3.PoolManager(ca_certs=world.ca_cert_file, cert_reqs="CERT_REQUIRED") as pool:
        return pool.urlopen(method, url, body=body or None, headers=dict(request.headers), retries=False)
