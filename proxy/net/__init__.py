"""The only I/O of the proxy. Nothing here knows a protocol by name.

listener ──accepts──> Link(client) ─┐                      ┌─ Link(upstream) <──connects── dial
                                    ├── driver: a Script ──┤
                                    └── relay: bytes ──────┘

transport.py  Link: one socket, plain or TLS, pull (login) or push (relay)
tls.py        SSL contexts towards upstream; what a failed verification means
identity.py   SSL contexts towards clients; who a certificate says they are
dial.py       names to sockets            sessions.py  cancel key -> where that session is connected
driver.py     runs a login under one deadline and keeps what must not depend on an engine
relay.py      moves bytes until both directions have ended        guarded.py  the same under a guard
lifetime.py   how long a session may                              shared/     clients that share a connection upstream
reception.py  takes clients in, counts, limits, drains            events.py   what it tells the audit log
listener.py   the same where clients log in                       crashes.py  how a bug of ours is written down
counters.py   plain numbers, read when scraped                    http/       services that sign each request
"""
