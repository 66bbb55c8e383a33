"""`tollbridge`: the operator's command line.

    __main__.py   the commands                    failure.py    what went wrong, with its fix and exit code
    where.py      how the broker is found         output.py     tables for people, JSON and YAML for programs
    iam.py        iam print, iam table            access.py     explain, rules test
    completion.py shell completion

What needs a configuration file alone works offline (iam, rules, explain --config); the rest asks a broker over gRPC, as
the identity of a certificate. Nothing here imports AWS's SDK.
"""
