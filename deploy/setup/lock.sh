#!/usr/bin/env bash
# Writes requirements/*.txt: names, versions and hashes, and never an address.
set -euo pipefail
compile() {
    uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
        --no-annotate --no-header "$@"
}
compile pyproject.toml --extra broker --extra proxy --extra cli -o requirements/runtime.txt
compile pyproject.toml --extra broker --extra proxy --extra cli --group dev -o requirements/dev.txt
compile requirements/sandbox.in -o requirements/sandbox.txt
compile --prerelease=allow requirements/mongodb.in -o requirements/mongodb.txt
compile requirements/build.in -o requirements/build.txt
compile requirements/bench.in -o requirements/bench.txt
compile requirements/aws-cli.in -o requirements/aws-cli.txt
