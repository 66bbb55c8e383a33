"""The Python driver of Cassandra, and who it connects to."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Self

from cassandra.auth import AuthProvider, PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.connection import DefaultEndPoint
from cassandra.policies import ConstantReconnectionPolicy, RoundRobinPolicy

from deploy.sandbox.cassandra import PEERS
from deploy.sandbox.world import World

PATIENCE_SECONDS: Final = 60.0
REQUEST_SECONDS: Final = 60.0


class Named(DefaultEndPoint):  # type: ignore[misc] # the driver has no types
    """127.0.0.1 under the name its certificate has to bear."""

    def __init__(self, name: str, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self.name = name

    @property
    def ssl_options(self) -> dict[str, str]:
        """What the driver hands to its TLS."""
        return {"server_hostname": self.name}


@contextlib.contextmanager
def connected(
    port: int,
    *,
    auth: AuthProvider | None = None,
    ca_file: str | None = None,
    name: str = "localhost",
    certificate: tuple[str, str] | None = None,
    version: int | None = None,
    **more: Any,
) -> Iterator[Session]:
    """A session of the driver as it comes; it settles on a version by itself unless one is given."""
    if ca_file is not None:
        context = ssl.create_default_context(cafile=ca_file)
        if certificate is not None:
            context.load_cert_chain(*certificate)
        more |= {"ssl_context": context}
    if version is not None:
        more |= {"protocol_version": version}
    cluster = Cluster(
        [Named(name, port) if ca_file is not None else DefaultEndPoint("127.0.0.1", port)],
        port=port,
        auth_provider=auth,
        connect_timeout=PATIENCE_SECONDS,
        control_connection_timeout=PATIENCE_SECONDS,
        reconnection_policy=ConstantReconnectionPolicy(0.2, max_attempts=None),
        execution_profiles={
            EXEC_PROFILE_DEFAULT: ExecutionProfile(RoundRobinPolicy(), request_timeout=REQUEST_SECONDS)
        },
        **more,
    )
    try:
        yield cluster.connect()
    finally:
        cluster.shutdown()


def superuser(world: World) -> contextlib.AbstractContextManager[Session]:
    """From behind, past proxy and IAM."""
    database = world.database("keyspaces")
    password = PlainTextAuthProvider("serviceuser", world.password_users["serviceuser"])
    return connected(database.local_port, auth=password, ca_file=world.ca_cert_file, name=database.host, version=4)


@dataclass(slots=True)
class Neighbours:
    """Listens where the servers would be that Cassandra tells its clients of, to see who comes."""

    port: int
    visitors: list[str] = field(default_factory=list)
    """Addresses that somebody connected to."""
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _thread: threading.Thread | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        for number in range(PEERS):
            address = f"127.0.0.{number + 2}"
            self._selector.register(socket.create_server((address, self.port)), selectors.EVENT_READ, address)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            listener = key.fileobj
            assert isinstance(listener, socket.socket)
            listener.close()
        self._selector.close()

    def _watch(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(timeout=0.05):
                listener = key.fileobj
                assert isinstance(listener, socket.socket)
                self.visitors.append(key.data)
                listener.accept()[0].close()
