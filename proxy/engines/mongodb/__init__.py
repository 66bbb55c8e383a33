"""MongoDB's wire protocol: DocumentDB.

Spec: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/,
https://github.com/mongodb/specifications/blob/master/source/auth/auth.md#mongodb-aws,
https://docs.aws.amazon.com/documentdb/latest/developerguide/iam-identity-auth.html

    client                        proxy                          broker            upstream
      | [TLS]                       |                              |                  |
      |<--------------------------->|                              |                  |
      | hello                       |                              |                  |
      |---------------------------->| route                        |                  |
      |                             | may this workload enter?     |                  |
      |                             |----------------------------->|                  |
      |                             | grant: no secret in it       |                  |
      |                             |<-----------------------------|                  |
      |                             | TLS at once: certificate verified               |
      |                             |<----------------------------------------------->|
      |                             | hello, without compression and login            |
      |                             |<----------------------------------------------->|
      |                             | saslStart MONGODB-AWS: our nonce                |
      |                             |------------------------------------------------>|
      |                             | a longer nonce, an STS host                     |
      |                             |<------------------------------------------------|
      |                             | sign this, for the pinned host                  |
      |                             |----------------------------->|                  |
      |                             | proof                        |                  |
      |                             |<-----------------------------|                  |
      |                             | saslContinue: the proof                         |
      |                             |<----------------------------------------------->|
      | hello's answer, rewritten   |                                                 |
      |<----------------------------|                                                 |
      | commands, each `$db` allowed by the broker ---------------------------------->|
      | answers <---------------------------------------------------------------------|

The client logs in with nothing, or with MONGODB-X509: its certificate, or the listener's fixed workload, says who it
is, and the listener's `db_user` which role it enters as. Drivers go where a server's hello points, so it points here.

A proof says who the role is and nothing else; the server shows it to STS. The server names the STS host, and proxy and
broker both take only that of the database's region. `$db` is checked on every message. What a pipeline reaches inside
(`$out`, `$merge`, `$lookup` into another database) is not seen: that is for the role's grants in the database.

`bson` and `wire` hold the bytes, `greeting` hello both ways, `handshake` the client half, `upstream` the other half
and the probe, `scanner` what is read of requests, `answers` of answers, `guard` the session, `refusals` how no is said.
"""

from __future__ import annotations

from proxy.engines.mongodb import greeting, upstream
from proxy.engines.mongodb.handshake import establish
from proxy.engines.mongodb.refusals import Voice
from proxy.errors import Refused
from proxy.model import Door, Outcome
from proxy.script import Script, refusing
from tollbridge.reasons import Reason

__all__ = ["MongoEngine"]


class MongoEngine:
    """`proxy.engine.Engine` for DocumentDB."""

    alpn: tuple[str, ...] = ()

    def login(self, door: Door) -> Script[Outcome]:
        """A client's connection from its first byte."""
        voice = Voice()
        return refusing(establish(door, voice), voice.encode)

    def probe(self, *, workload: str, database: str, db_user: str, db_name: str) -> Script[str]:
        """The upstream half alone; a `db_name` is asked about as a message's would be."""
        request = upstream.Request(
            workload=workload, database=database, db_user=db_user, hello=tuple(greeting.plain_question())
        )
        return upstream.probe(request, db_name)

    def refuse(self, reason: Reason, message: str) -> bytes:
        """A refusal for a client that has said nothing yet: drivers take it for a broken connection, and try again."""
        return Voice().encode(Refused(reason, message))
