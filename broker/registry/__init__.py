"""Which databases exist: an immutable snapshot, merged from where they were registered, and the news of its changes.

    static.py     rules for one database, and for the configuration's   documents.py  `kind: db` text <-> database
    bounds.py     what only static configuration may say                arns, endpoints, address, products, roles: PURE
    sources.py    static + dynamic + discovered -> snapshot.py -> registry.py -> watchers

    registrar.py  what operators do --> store.py (sqlite.py, mirror.py, broker.aws.dynamodb)
    follower.py   each second: what changed? --> dynamic.py: judged under this broker's terms --> sources.py

What was accepted once is judged again at each start and each change of the configuration.
"""
