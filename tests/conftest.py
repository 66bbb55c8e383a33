"""What holds for all tests.

How hard hypothesis tries: TOLLBRIDGE_FUZZ=fast (the default, the same examples in every run) or deep. Left to itself it
takes random examples, and fails one that takes a busy machine 200 ms.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tollbridge.process import telemetry

SLOW = [HealthCheck.too_slow]
settings.register_profile("fast", max_examples=60, deadline=None, derandomize=True, suppress_health_check=SLOW)
settings.register_profile(
    "deep", max_examples=10_000, deadline=None, suppress_health_check=[*SLOW, HealthCheck.data_too_large]
)
settings.load_profile(os.environ.get("TOLLBRIDGE_FUZZ", "fast"))


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Commands that run in the test's own process set levels that the next test would inherit."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    loggers = [root, *map(logging.getLogger, telemetry.TALKATIVE)]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    for handler in set(root.handlers) - set(handlers):
        if type(handler) is logging.StreamHandler:  # pytest's own are of other types, and come and go with a test
            root.removeHandler(handler)
