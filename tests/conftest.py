"""What all tests share: hypothesis never judges by the clock, and draws the same examples in CI each time."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "samediff",
    deadline=None,  # the machine is shared; time is measured in tests/bench
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("samediff")
