"""How hard hypothesis tries: TOLLBRIDGE_FUZZ=fast (the default) or deep."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("fast", max_examples=60, deadline=None, derandomize=True)
settings.register_profile(
    "deep", max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile(os.environ.get("TOLLBRIDGE_FUZZ", "fast"))
