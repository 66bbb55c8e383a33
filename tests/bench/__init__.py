"""Direct, the strongest peer and tollbridge, against each other in one run.

`make bench` prints a table and writes bench-results/*.json. Every figure is the median of interleaved rounds, and what
counts is CPU per operation and the ratio: absolute times drift on shared machines. Nothing here is a timed test.

    contenders.py   how each way to the database is started, and which process's CPU is counted
    workloads.py    what is measured: transactions, bulk copy, logins, idle sessions
    report.py       medians, ratios, the table, the JSON
"""
