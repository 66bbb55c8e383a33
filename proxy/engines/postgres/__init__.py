"""PostgreSQL, protocol 3.0 and 3.2: RDS, Aurora, RDS Proxy, DSQL, Redshift, and whatever else speaks it.

Spec: https://www.postgresql.org/docs/current/protocol-flow.html (start-up, cancelling, SSL and GSSAPI encryption),
https://www.postgresql.org/docs/current/protocol-message-formats.html, SCRAM in RFC 5802 and RFC 7677.

    client                        proxy                          broker            upstream
      | SSLRequest                  |                              |                  |
      |---------------------------->|                              |                  |
      | 'S', TLS (or TLS at once,   |                              |                  |
      |<--------------------------->| with ALPN `postgresql`)      |                  |
      | StartupMessage              |                              |                  |
      |---------------------------->| route, resolve the database  |                  |
      |                             | may this workload enter?     |                  |
      |                             |----------------------------->|                  |
      |                             | grant (sealed)               |                  |
      |                             |<-----------------------------|                  |
      |                             | SSLRequest, 'S', TLS: certificate verified      |
      |                             |<----------------------------------------------->|
      |                             | StartupMessage                                  |
      |                             |------------------------------------------------>|
      |                             | [NegotiateProtocolVersion,] Authentication*     |
      |                             |<------------------------------------------------|
      |                             | the token, revealed only now                    |
      |                             |------------------------------------------------>|
      |                             | AuthenticationOk, ParameterStatus*,             |
      |                             | BackendKeyData, ReadyForQuery                   |
      | the same, unchanged         |<------------------------------------------------|
      |<----------------------------|                                                 |
      | queries and answers, not looked at                                            |
      |<----------------------------------------------------------------------------->|

Redshift is a PostgreSQL of long ago with parameters of its own, which pass unchanged, and a digest in place of SCRAM;
the user that logs in is the one its API returned with the password (`IAM:name`, `IAMR:role`).

The client is never asked for a password: its certificate, or the listener's fixed workload, says who it is. When
upstream rejects the credential, the broker is asked for another and the login repeated once. A CancelRequest comes on
a connection of its own and is carried to the server that the key belongs to.

`wire` holds the bytes, `handshake` the client half, `upstream` the other half and the probe, `auth` and `scram` how
the proxy proves itself, `cancel` cancel requests, `refusals` how no is said, `causes` why a server may say it.
"""

from __future__ import annotations

from proxy.engines.postgres import cancel, upstream
from proxy.engines.postgres.handshake import establish, open_connection
from proxy.engines.postgres.refusals import encode
from proxy.engines.postgres.wire import VERSION_3_0, CancelRequest, Startup
from proxy.errors import Refused
from proxy.model import Door, Outcome
from proxy.script import Script, refusing
from tollbridge.reasons import Reason

__all__ = ["PostgresEngine"]


class PostgresEngine:
    """`proxy.engine.Engine` for PostgreSQL."""

    alpn: tuple[str, ...] = upstream.ALPN

    def login(self, door: Door) -> Script[Outcome]:
        """A client's connection from its first byte to Established, or Finished for a cancel request."""
        opening = yield from refusing(open_connection(door), encode)
        if isinstance(opening.packet, CancelRequest):  # never answered, not even with a refusal
            return (yield from cancel.forward(opening.packet, door, opening.facts))
        return (yield from refusing(establish(door, opening.packet, opening.facts), encode))

    def probe(self, *, workload: str, database: str, db_user: str, db_name: str) -> Script[str]:
        """The upstream half, `select 1`, and Terminate."""
        startup = Startup(version=VERSION_3_0, parameters=((b"application_name", b"tollbridge"),))
        request = upstream.Request(
            workload=workload, database=database, db_user=db_user, db_name=db_name or db_user, startup=startup
        )
        return (yield from upstream.probe(request))

    def refuse(self, reason: Reason, message: str) -> bytes:
        """A refusal for a client that has said nothing yet."""
        return encode(Refused(reason, message))
