"""CA files that databases name."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

_MAX_CA_BYTES: Final = 1024 * 1024


def read_ca(path: str) -> str:
    """PEM text of a CA file. Raises ValueError."""
    try:
        with Path(path).open("rb") as file:
            pem = file.read(_MAX_CA_BYTES + 1).decode("ascii")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not PEM text") from error
    if len(pem) > _MAX_CA_BYTES:
        raise ValueError(f"{path} is larger than {_MAX_CA_BYTES} bytes")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(f"{path} holds no PEM certificate") from error
    return pem
