"""Real clients -> proxy -> broker -> sandbox, and the refusals.

arrangement.py         the configuration that most tests share: many doors, many databases that are broken somehow
conftest.py            one sandbox and one bridge per run; bridges of their own for tests that break things
test_clients_*.py      clients that nobody here wrote get in and work
test_upstream_auth.py  the other ways PostgreSQL asks for a password
test_refusals.py       logins that end in a refusal: the table
test_hostile_*.py      peers that break the protocol, on either side
test_outages.py        broker, STS or database away; drain
"""
