"""MySQL and MariaDB: RDS, Aurora, RDS Proxy, and whatever else speaks their protocol.

Spec: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html (greeting, TLS, methods),
https://mariadb.com/docs/server/reference/clientserver-protocol (what MariaDB adds).

    client                        proxy                          broker            upstream
      |                             | what is known of the server? |                  |
      |                             | (cold: one login connects    |     greeting     |
      |                             |<- - - - - - - - - - - - - - - - - - - - - - - - |
      | greeting: the server's      |  and keeps that connection)  |                  |
      |<----------------------------|  version, flags and charset  |                  |
      | [SSLRequest, TLS]           |                              |                  |
      |<--------------------------->|                              |                  |
      | HandshakeResponse41         |                              |                  |
      |---------------------------->| route, agree on flags        |                  |
      | [AuthSwitch, a scramble     |                              |                  |
      |<--------------------------->|  that nobody looks at]       |                  |
      |                             | may this workload enter?     |                  |
      |                             |----------------------------->|                  |
      |                             | grant (sealed)               |                  |
      |                             |<-----------------------------|                  |
      |                             | greeting, SSLRequest, TLS: certificate verified |
      |                             |<----------------------------------------------->|
      |                             | HandshakeResponse41: the client's flags, no credential
      |                             |------------------------------------------------>|
      |                             | AuthSwitchRequest: mysql_clear_password         |
      |                             |<------------------------------------------------|
      |                             | the token, revealed only now                    |
      |                             |------------------------------------------------>|
      |                             | OK                                              |
      | [fast auth,] OK             |<------------------------------------------------|
      |<----------------------------|                                                 |
      | commands and answers; of the client's only the first bytes of packets are looked at
      |<----------------------------------------------------------------------------->|

A server speaks first, so a client must be greeted before anybody knows who it is. It is greeted with facts of the
server's last greeting, kept per endpoint: a connection that says nothing (a health check) costs the database nothing.
Client and server then agree, through the proxy, on one set of flags, so that what follows can be relayed unread. A
client whose flags the server has lost since is told 1053, and the next one is greeted with the new ones. Where the
greeting cannot know the database (routes by SNI or login name) the listener's `mysql.server_version` stands in, with
the flags that every server has.

The client is never asked for a password: its certificate, or the listener's fixed workload, says who it is. The thread
id of a greeting from facts is 0: the real one is `select connection_id()`, and that is what KILL takes.

`wire` holds the bytes, `capabilities` the flags, `handshake` the client half, `upstream` the other half and the probe,
`commands` the guard of a session, `refusals` how no is said.
"""

from __future__ import annotations

from proxy.engines.mysql import capabilities as caps
from proxy.engines.mysql import upstream
from proxy.engines.mysql.handshake import Conversation, establish
from proxy.engines.mysql.refusals import encode
from proxy.engines.mysql.wire import Response
from proxy.errors import Refused
from proxy.model import Door, Outcome
from proxy.script import Script, refusing
from tollbridge.reasons import Reason

__all__ = ["MysqlEngine"]


class MysqlEngine:
    """`proxy.engine.Engine` for MySQL and MariaDB."""

    alpn: tuple[str, ...] = ()

    def login(self, door: Door) -> Script[Outcome]:
        """A client's connection from our greeting to Established."""
        talk = Conversation()
        return (yield from refusing(establish(door, talk), talk.refusal))

    def probe(self, *, workload: str, database: str, db_user: str, db_name: str) -> Script[str]:
        """The upstream half, `select 1`, and COM_QUIT."""
        flags = caps.CLIENT_MYSQL | caps.LONG_FLAG | caps.TRANSACTIONS | caps.MULTI_RESULTS | caps.CONNECT_ATTRS
        response = Response(
            capabilities=flags | (caps.CONNECT_WITH_DB if db_name else 0),
            schema=db_name.encode(),
            attributes=b"\x0cprogram_name\x0atollbridge",
        )
        request = upstream.Request(workload=workload, database=database, db_user=db_user, response=response)
        return (yield from upstream.probe(request))

    def refuse(self, reason: Reason, message: str) -> bytes:
        """A refusal for a client that has said nothing yet, in the greeting's place."""
        return encode(Refused(reason, message), 0, early=True)
