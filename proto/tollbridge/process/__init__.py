"""What both daemons are made of.

    lifecycle.py   the wall clock, signals, the event loop: how a process starts, drains and ends
    tls.py         certificate, key and CA files: read, checked against each other, watched
    telemetry.py   JSON log lines and metrics, with the names of their fields
    admin.py       /livez /readyz /metrics
    settings.py    one YAML file -> one checked value
    words.py       what people write where it wants a word of ours
    files.py       the files that it names

The client library uses `tls` alone; importing this package imports nothing that the base install lacks.
"""
