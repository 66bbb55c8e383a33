#!/usr/bin/env bash
# Usage: venv.sh PYTHON VENV LOCKFILE
# Makes VENV from LOCKFILE (hashes required) and installs this project into it, with progress on the terminal.
set -euo pipefail
python=$1 venv=$2 lock=$3

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "tollbridge needs Python 3.11 or newer; '$python' is not. Say which: make PYTHON=/path/to/python3.11 ..." >&2
    exit 1
fi
if [ ! -x "$venv/bin/pip" ]; then
    echo "==> making the virtual environment $venv"
    if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
        rm -rf "$venv"
        install=(apt-get install -y --no-install-recommends python3-venv)
        if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
            echo "==> ${install[*]}"
            apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive "${install[@]}" -q >/dev/null
            "$python" -m venv "$venv"
        else
            echo "Python's venv module is missing. Install it: sudo ${install[*]}" >&2
            exit 1
        fi
    fi
fi
echo "==> installing $(grep -c '==' "$lock") locked packages into $venv (a minute the first time)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
