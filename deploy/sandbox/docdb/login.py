"""MONGODB-AWS as DocumentDB does it: a nonce for the client to sign into a call of STS, which is then made as signed.

https://github.com/mongodb/specifications/blob/master/source/auth/auth.md#mongodb-aws, from the server's side.
"""

import base64
import http.client
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import bson
from bson.binary import Binary

BODY = "Action=GetCallerIdentity&Version=2011-06-15"
NONCE_BYTES = 32
TIMEOUT_SECONDS = 10.0
CHANNEL_BINDING = ord("n")
_MUST_SIGN = {"host", "content-length", "content-type", "x-amz-date", "x-mongodb-gs2-cb-flag", "x-mongodb-server-nonce"}
_SIGNED_HEADERS = re.compile(r"SignedHeaders=([a-z0-9;-]+)")
_ARN = re.compile(r"<Arn>arn:([a-z-]+):sts::(\d{12}):assumed-role/([^/<]+)/[^<]+</Arn>")


class Denied(Exception):
    """Not let in; the message says why, for the log alone."""


@dataclass(slots=True)
class Exchange:
    """One login."""

    sts_host: str
    """What the client is told to sign for."""
    users: frozenset[str]
    """ARNs of roles."""
    aws_endpoint: Callable[[], tuple[str, int]]
    """Where the sandbox's STS is."""
    _nonce: bytes = b""

    def start(self, command: dict[str, Any]) -> dict[str, Any]:
        """The payload for a saslStart. Raises Denied."""
        first = _payload(command)
        nonce, flag = first.get("r"), first.get("p")
        if command.get("mechanism") != "MONGODB-AWS":
            raise Denied(f"mechanism {command.get('mechanism')}")
        if not isinstance(nonce, bytes) or len(nonce) != NONCE_BYTES or flag != CHANNEL_BINDING:
            raise Denied("a first payload that is none")
        self._nonce = bytes(nonce) + os.urandom(NONCE_BYTES)
        return {"s": Binary(self._nonce), "h": self.sts_host}

    def finish(self, command: dict[str, Any]) -> str:
        """The user's ARN for a saslContinue. Blocks. Raises Denied."""
        second = _payload(command)
        authorization, date, token = (second.get(name, "") for name in ("a", "d", "t"))
        if not self._nonce or not all(isinstance(text, str) for text in (authorization, date, token)):
            raise Denied("a second payload that is none")
        found = _SIGNED_HEADERS.search(authorization)
        # Without them signed, somebody else's call of STS would do.
        if found is None or not set(found[1].split(";")) >= _MUST_SIGN:
            raise Denied("the nonce is not signed")
        nonce, self._nonce = self._nonce, b""
        arn = self._ask_sts(nonce, authorization, date, token)
        if arn not in self.users:
            raise Denied(f"no user {arn}")
        return arn

    def _ask_sts(self, nonce: bytes, authorization: str, date: str, token: str) -> str:
        headers = {
            "Host": self.sts_host,
            "Content-Type": "application/x-www-form-urlencoded",
            "Content-Length": str(len(BODY)),
            "X-Amz-Date": date,
            "X-MongoDB-Server-Nonce": base64.b64encode(nonce).decode(),
            "X-MongoDB-GS2-CB-Flag": "n",
            "Authorization": authorization,
            **({"X-Amz-Security-Token": token} if token else {}),
        }
        connection = http.client.HTTPConnection(*self.aws_endpoint(), timeout=TIMEOUT_SECONDS)
        try:
            connection.putrequest("POST", "/", skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(BODY.encode())
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Denied(f"STS: {type(error).__name__}") from error
        finally:
            connection.close()
        found = _ARN.search(text)
        if answer.status != 200 or found is None:
            code = re.search(r"<Code>([^<]+)</Code>", text)
            raise Denied(f"STS: {answer.status} {code[1] if code else ''}")
        return f"arn:{found[1]}:iam::{found[2]}:role/{found[3]}"


def _payload(command: dict[str, Any]) -> dict[str, Any]:
    payload = command.get("payload")
    if not isinstance(payload, bytes):
        raise Denied("no payload")
    try:
        return dict(bson.decode(payload))
    except bson.errors.InvalidBSON as error:
        raise Denied("a payload that is no document") from error
