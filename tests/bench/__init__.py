"""Direct, the strongest peer and tollbridge, against each other in one run.

`make bench` prints tables and writes bench-results/*.json. Every figure is the median of interleaved rounds, and what
counts is CPU per operation and the ratio: absolute times drift on shared machines. Nothing here is a timed test.

    postgres.py     pgbench, COPY, logins, idle sessions; against pgbouncer
    mysql.py        sysbench; against haproxy, and against tollbridge's own PostgreSQL
    redis.py        redis-benchmark against Valkey; against Envoy and nutcracker
    contenders.py   how a peer is started, and which process's CPU is counted
    runner.py       rounds
    report.py       medians, ratios, goals, the table, the JSON
    envoy_venv.py   an environment of its own for Envoy's wheel
"""
