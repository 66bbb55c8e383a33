"""How hard hypothesis tries: TOLLBRIDGE_FUZZ=fast (the default, the same examples in every run) or deep.

For all tests: left to itself it takes random examples, and fails one that takes a busy machine 200 ms.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow]
settings.register_profile("fast", max_examples=60, deadline=None, derandomize=True, suppress_health_check=SLOW)
settings.register_profile(
    "deep", max_examples=10_000, deadline=None, suppress_health_check=[*SLOW, HealthCheck.data_too_large]
)
settings.load_profile(os.environ.get("TOLLBRIDGE_FUZZ", "fast"))
