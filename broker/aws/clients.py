"""Clients of AWS's APIs on threads of their own, signed per call, on AWS's clock."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import boto3.session
import botocore
from botocore.auth import SigV4Auth
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ClientError

from broker.audit import CallCounters
from broker.aws.errors import SDK_ERRORS, AwsFault, Kind, fault_of
from broker.model import AccountSession
from tollbridge.clock import Clock

if TYPE_CHECKING:
    from botocore.awsrequest import AWSRequest

WORKERS: Final = 16
CONNECT_SECONDS: Final = 2
READ_SECONDS: Final = 5

GARBLED: Final = (KeyError, IndexError, TypeError, AttributeError, ValueError)
"""What the SDK's parsers trip over where an answer is not AWS's but, say, some gateway's page, empty or in HTML; and
what whoever reads an answer finds missing in it."""

_T = TypeVar("_T")
_R = TypeVar("_R", bound=Mapping[str, Any])


def sdk_config(**more: Any) -> Config:
    """How every call of this broker to AWS behaves: short timeouts, one attempt (`retries.py` is the only retry)."""
    return Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        user_agent_extra="tollbridge-broker",
        **more,
    )


def keep_sdk_quiet() -> None:
    """Keep the SDK's loggers from DEBUG, where they write session tokens and whole answers of STS."""
    for name in ("boto3", "botocore", "urllib3"):
        logger = logging.getLogger(name)
        if logger.level < logging.INFO:
            logger.setLevel(logging.INFO)


class SkewMeter:
    """How far AWS's clock is ahead of ours, from the Date of its answers."""

    def __init__(self) -> None:
        self._seconds = 0.0

    @property
    def seconds(self) -> float:
        """Positive: our clock is behind. 0.0 while the difference is within what the measurement can tell."""
        return self._seconds

    def note(self, date: str, *, sent_at: datetime, received_at: datetime) -> None:
        """Take a measurement; one call's, whole seconds and half its time on the wire are its error."""
        try:
            theirs = parsedate_to_datetime(date)
        except ValueError:
            return
        if theirs.tzinfo is None:
            theirs = theirs.replace(tzinfo=UTC)
        elapsed = (received_at - sent_at).total_seconds()
        seconds = (theirs - sent_at).total_seconds() + 0.5 - elapsed / 2
        self._seconds = seconds if abs(seconds) > 2.0 + elapsed / 2 else 0.0


class AwsClients:
    """Calls a group of APIs: a client per service and region, threads of its own, each call with its own signer.

    A group that is slow takes no thread from another.
    """

    def __init__(
        self, *, name: str, clock: Clock, counters: CallCounters, skew: SkewMeter, workers: int = WORKERS
    ) -> None:
        """`name` is the threads'. `skew` may be shared: it is one clock that is wrong."""
        keep_sdk_quiet()
        self.skew = skew
        self._clock = clock
        self._counters = counters
        self._workers = workers
        self._executor = ThreadPoolExecutor(max_workers=workers, thread_name_prefix=name)
        self._clients: dict[tuple[str, str], Any] = {}
        self._sdk: Any = None
        self._lock = threading.Lock()
        self._signing = threading.local()

    def now(self) -> datetime:
        """AWS's time."""
        return self._clock.now() + timedelta(seconds=self.skew.seconds)

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """Run blocking work of the SDK off the loop."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def call(
        self, service: str, region: str, signer: AccountSession, name: str, operation: Callable[[Any], _R]
    ) -> _R:
        """One attempt of one call; `operation` is handed the SDK's client. Raises AwsFault."""
        self._counters.call(name)
        return await self.in_thread(lambda: self._call(service, region, signer, operation))

    def close(self) -> None:
        """Let go of the threads; what runs ends within its timeouts."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _call(self, service: str, region: str, signer: AccountSession, operation: Callable[[Any], _R]) -> _R:
        sent_at = self._clock.now()
        try:
            client = self._client(service, region)
            self._signing.session = signer
            answer = operation(client)
        except SDK_ERRORS as error:
            if isinstance(error, ClientError):
                self._measure(error.response, sent_at)
            # Without its cause: the SDK's text may quote what was sent.
            raise fault_of(error) from None
        except GARBLED as error:
            raise AwsFault(Kind.UNAVAILABLE, type(error).__name__) from None
        finally:
            self._signing.session = None
        self._measure(answer, sent_at)
        return answer

    def _measure(self, answer: Mapping[str, Any], sent_at: datetime) -> None:
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        if date:
            self.skew.note(date, sent_at=sent_at, received_at=self._clock.now())

    def _client(self, service: str, region: str) -> Any:
        with self._lock:
            client = self._clients.get((service, region))
            if client is None:
                # Made now, so that the environment is read now, and once: each session would hold the models of its
                # services, 10 MB a client. It looks for no credentials.
                config = sdk_config(signature_version=botocore.UNSIGNED, max_pool_connections=self._workers)
                self._sdk = self._sdk or boto3.session.Session()
                client = self._sdk.client(service, region_name=region, config=config)
                service_id = client.meta.service_model.service_id.hyphenize()
                client.meta.events.register(f"before-sign.{service_id}", self._sign)
                self._clients[service, region] = client
            return client

    def _sign(self, request: AWSRequest, region_name: str, signing_name: str, **_: Any) -> None:
        session: AccountSession = self._signing.session
        credentials = ReadOnlyCredentials(
            session.access_key_id, session.secret_key.reveal(), session.session_token.reveal() or None
        )
        _SigV4At(credentials, signing_name, region_name, self.now()).add_auth(request)


class _SigV4At(SigV4Auth):
    """The SDK's signer with a date of our choice, and without its debug lines, which hold the session token."""

    def __init__(self, credentials: ReadOnlyCredentials, service: str, region: str, at: datetime) -> None:
        super().__init__(credentials, service, region)
        self._at = at

    def add_auth(self, request: AWSRequest) -> None:
        request.context["timestamp"] = self._at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        del request.headers["Authorization"], request.headers["X-Amz-Date"], request.headers["X-Amz-Security-Token"]
        request.headers["X-Amz-Date"] = request.context["timestamp"]
        if self.credentials.token:
            request.headers["X-Amz-Security-Token"] = self.credentials.token
        signature = self.signature(self.string_to_sign(request, self.canonical_request(request)), request)
        signed_headers = self.signed_headers(self.headers_to_sign(request))
        request.headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.scope(request)}, SignedHeaders={signed_headers}, Signature={signature}"
        )
