"""The main job on show: psql in one AWS account reaches PostgreSQL in another, with no password anywhere.

`python -m deploy.demo [--once]`. `story` tells it; `narrator` is how it looks on a terminal.
"""
