"""The main job on show: a client in one AWS account reaches a database in another, with no password anywhere.

`python -m deploy.demo [--once] [--products NAME,...]`. `story` tells it at PostgreSQL, `tours` in short at the other
databases; `narrator` is how it looks on a terminal.
"""
