"""Redis and Valkey, RESP2 and RESP3: ElastiCache, ElastiCache Serverless, MemoryDB.

Spec: https://redis.io/docs/latest/develop/reference/protocol-spec/, https://valkey.io/commands/auth/,
https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html (what a token is, and the twelve hours).

    client                        proxy                          broker            upstream
      | [TLS]                       |                              |                  |
      |<--------------------------->|                              |                  |
      | HELLO 3 [AUTH user x], or   |                              |                  |
      | AUTH [user] x, or anything  |                              |                  |
      |---------------------------->| route                        |                  |
      |                             | may this workload enter?     |                  |
      |                             |----------------------------->|                  |
      |                             | grant (sealed)               |                  |
      |                             |<-----------------------------|                  |
      |                             | TLS at once: certificate verified               |
      |                             |<----------------------------------------------->|
      |                             | HELLO 3 AUTH user token, or AUTH user token     |
      |                             |------------------------------------------------>|
      |                             | the reply                                       |
      |                             |<------------------------------------------------|
      | HELLO's reply, or +OK, or   |                                                 |
      | nothing: see below          |                                                 |
      |<----------------------------|                                                 |
      | commands ------------------>| ----------------------------------------------->|
      | replies, not looked at <----------------------------------------------------- |
      |                             | before 12 h: fence, AUTH user fresh-token       |
      |                             |------------------------------------------------>|
      |                             | its replies, swallowed                          |
      |                             |<------------------------------------------------|

The client is never asked for a password and whatever it sends as one is ignored: its certificate, or the listener's
fixed workload, says who it is. Where the listener has a database and a `db_user`, the first command of any kind starts
the login and goes upstream behind it; elsewhere a client names its user in AUTH or HELLO (`db_user@database` where the
listener is routed so) and hears -NOAUTH until it does.

In a session every command's name is looked at (`scanner`), replies are not. The few commands that must not reach the
server are answered in their turn, which a `fence` finds. AWS ends a login after twelve hours; it is renewed long
before, between two commands, outside MULTI. What cannot be renewed is ended just before AWS would: a RESP2 connection
that stays subscribed, a blocking command that never returns, a MULTI that never ends.

Where the listener multiplexes, clients of one workload, user and protocol version share a connection. Each is permitted
for itself and then hears what the shared login has heard. Only commands that are known to have one answer and no effect
on the connection go over it; a client that says any other gets a connection of its own from there on, as above. What a
server pushes there between answers is nobody's and skipped. A login that is shared is not renewed: another takes its
place.

`wire` holds the bytes, `login` AUTH and HELLO, `handshake` the client half, `upstream` the other half and the probe,
`session` what a login ends in, `scanner`, `fence` and `guard` a connection of its own, `shareable`, `sharing` and
`replies` a shared one, `patterns` what reads short messages, `refusals` how no is said.
"""

from __future__ import annotations

from proxy.engines.redis import upstream
from proxy.engines.redis.handshake import establish, open_connection
from proxy.engines.redis.refusals import encode
from proxy.errors import Refused
from proxy.model import Door, Outcome
from proxy.script import Script, refusing
from tollbridge.reasons import Reason

__all__ = ["RedisEngine"]


class RedisEngine:
    """`proxy.engine.Engine` for Redis and Valkey."""

    alpn: tuple[str, ...] = ()

    def login(self, door: Door) -> Script[Outcome]:
        """A client's connection from its first byte to Established, or Finished for one that only said QUIT."""
        return refusing(_login(door), encode)

    def probe(self, *, workload: str, database: str, db_user: str, db_name: str) -> Script[str]:
        """The upstream half, PING, and QUIT. There is no db_name to choose."""
        return (yield from upstream.probe(upstream.Request(workload=workload, database=database, db_user=db_user)))

    def refuse(self, reason: Reason, message: str) -> bytes:
        """A refusal for a client that has said nothing yet."""
        return encode(Refused(reason, message))


def _login(door: Door) -> Script[Outcome]:
    facts = yield from open_connection(door)
    return (yield from establish(door, facts))
