"""How a bug of ours is written down: in one way, wherever it is caught."""

from __future__ import annotations

import logging
import traceback

from proxy.errors import LocalFault


def report(log: logging.Logger, what: str, fault: Exception) -> None:
    """Say that `what` crashed, and where.

    The message of a foreign exception can hold anything, so of those only type and place are logged.
    """
    said = f" {fault}" if isinstance(fault, LocalFault) else ""
    where = "".join(traceback.format_tb(fault.__traceback__))
    log.error("%s crashed: %s%s\n%s", what, type(fault).__name__, said, where)
