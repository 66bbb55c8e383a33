"""CQL's native protocol, versions 3 and 4: Amazon Keyspaces.

Spec: https://github.com/apache/cassandra/blob/trunk/doc/native_protocol_v4.spec,
https://docs.aws.amazon.com/keyspaces/latest/devguide/programmatic.drivers.html (what clients Keyspaces takes).

    client                        proxy                          broker            upstream
      | [TLS]                       |                              |                  |
      |<--------------------------->|                              |                  |
      | OPTIONS, v5 or a DSE's      |                              |                  |
      |---------------------------->|                              |                  |
      | ERROR in v4: only 3 and 4   |                              |                  |
      |<----------------------------| (the driver connects anew)   |                  |
      | OPTIONS, v4                 |                              |                  |
      |---------------------------->|                              |                  |
      | SUPPORTED, no compression   |                              |                  |
      |<----------------------------|                              |                  |
      | STARTUP                     |                              |                  |
      |---------------------------->|                              |                  |
      | [AUTHENTICATE]              |                              |                  |
      |<----------------------------|                              |                  |
      | [AUTH_RESPONSE: user, any   |                              |                  |
      |  password]                  | route                        |                  |
      |---------------------------->|                              |                  |
      |                             | may this workload enter?     |                  |
      |                             |----------------------------->|                  |
      |                             | grant (sealed)               |                  |
      |                             |<-----------------------------|                  |
      |                             | TLS at once: certificate verified               |
      |                             |<----------------------------------------------->|
      |                             | STARTUP: the client's options                   |
      |                             |------------------------------------------------>|
      |                             | AUTHENTICATE                                    |
      |                             |<------------------------------------------------|
      |                             | AUTH_RESPONSE: SigV4                            |
      |                             |------------------------------------------------>|
      |                             | AUTH_CHALLENGE: a nonce                         |
      |                             |<------------------------------------------------|
      |                             | AUTH_RESPONSE: a signature, by the key revealed only now
      |                             |------------------------------------------------>|
      |                             | AUTH_SUCCESS                                    |
      | AUTH_SUCCESS, or READY      |<------------------------------------------------|
      |<----------------------------|                                                 |
      | requests: headers are looked at ---------------------------------------------->|
      |<----- answers: system.local and system.peers rewritten, news of nodes dropped |

Where the listener has a database and a `db_user`, STARTUP is the login (AllowAllAuthenticator); elsewhere a client
names its role in PLAIN, `db_user@database` where the listener is routed so. Whatever it sends as a password is ignored:
its certificate, or the listener's fixed workload, says who it is.

Upstream speaks the client's version, so that frames can be relayed as they are, stream ids included. Compression is not
offered, because results must be read. Drivers look for other nodes, to connect to them past the proxy; they find none.

`wire` and `reading` hold the bytes, `handshake` the client half, `upstream` the other half and the probe, `proof` the
signature, `guard` and `requests` the session, `results` and `statements` what is rewritten in it, `refusals` how no is
said.
"""

from __future__ import annotations

from typing import Final

from proxy.engines.cassandra import upstream, wire
from proxy.engines.cassandra.handshake import Conversation, establish
from proxy.engines.cassandra.refusals import encode
from proxy.errors import Refused
from proxy.model import Door, Outcome
from proxy.script import Script, refusing
from tollbridge.reasons import Reason

__all__ = ["CassandraEngine"]

_OPTIONS: Final = ((b"CQL_VERSION", b"3.0.0"), (b"DRIVER_NAME", b"tollbridge"))
"""What the probe says of itself."""


class CassandraEngine:
    """`proxy.engine.Engine` for Keyspaces."""

    alpn: tuple[str, ...] = ()

    def login(self, door: Door) -> Script[Outcome]:
        """A client's connection from its first byte to Established, or Finished where the version is not spoken."""
        talk = Conversation()
        return (yield from refusing(establish(door, talk), talk.refusal))

    def probe(self, *, workload: str, database: str, db_user: str, db_name: str) -> Script[str]:
        """The upstream half and a query. There is no db_name to choose."""
        request = upstream.Request(
            workload=workload, database=database, db_user=db_user, version=wire.V4, options=_OPTIONS
        )
        return (yield from upstream.probe(request))

    def refuse(self, reason: Reason, message: str) -> bytes:
        """A refusal for a client that has said nothing yet, as the answer to its first request, number 0."""
        return encode(Refused(reason, message))
