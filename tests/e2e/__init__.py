"""Real clients -> proxy -> broker -> sandbox, and the refusals.

    conftest.py               one sandbox and one bridge per run; a bridge of its own for tests that break things
    arrangement.py            the shared bridge: a door for every way in, a database for everything that can be wrong
    clients.py, load.py       where clients connect; many logins at once
    test_clients_*.py         clients that nobody here wrote get in and work
    test_routes.py            who a client is and where it is led
    test_upstream_auth.py     the other ways PostgreSQL asks for a password
    test_check_command.py     the operator's walk along the way of a login
    test_cli*.py              the operator's command line; test_readme_cli.py: as README.md shows it
    test_doctor*.py           printed IAM policies are enough, each statement is needed, doctor names the missing one
    test_refusals.py          logins that end in a refusal: the table
    test_hostile_clients.py   clients that break the protocol, stall or vanish
    test_outages.py           STS or a database away, drain, limits, proxies outside their row
    test_broker_away.py       what holds without a broker
    test_base_credentials.py  where the broker's own keys come from
    test_sessions.py          account sessions that end, die and come back
    test_scale.py             a thousand logins at once
    test_rotation.py          certificates that change under load
    test_secrets.py           nothing secret anywhere outside a grant

Everything on 127.0.0.1, and no password anywhere on the client's side.
"""
