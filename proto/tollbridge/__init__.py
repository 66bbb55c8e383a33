"""What broker, proxies and other services share: the contract and the few words everybody uses.

    v1/          the gRPC contract (generated from the .proto files beside the stubs)
    client/      calls the broker: channel, identity, typed results, errors
    process/     what both daemons are made of: TLS files, settings, telemetry, lifecycle
    model.py     databases and grants as frozen values
    reasons.py   why a request was refused
    secret.py    a value that never prints
    names.py     which name may be meant by one that nobody has
    clock.py     how time reaches code that decides

Nothing here imports the broker or the proxy. `model`, `reasons`, `secret`, `names` and `clock` are pure.
"""
