"""The proxy: speaks a database's own protocol to applications, asks the broker, logs in upstream, moves bytes.

    __main__.py   argv only            app.py       composition root: the only place that constructs things
    settings.py   the YAML             files.py     the files it names
    admin.py      /livez /readyz /metrics
    catalog.py    what exists (watch)  grants.py    asks the broker: single flight, cache
    protocols.py  a listener leads to databases of its own protocol alone

    script.py inbox.py guard.py model.py errors.py     PURE: what engines are written in
    admission.py  PURE: how many logins a database bears, and who waits
    http/ sigv4.py                                     PURE: HTTP/1.1 as values, signatures with derived keys
    engines/      PURE: one folder per protocol
    net/          THE ONLY I/O: transport, dial, driver, relay, listener

A login is a *script*: a generator that yields effects and reads top to bottom like the protocol's sequence diagram.
`net.driver` runs it over two transports under one deadline and keeps the promises that must not depend on an engine.
Where every request is signed for itself there is no login: `net.http` serves those protocols request by request.
"""
