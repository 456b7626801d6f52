"""How much the fuzz tests try: the same 200 examples each time, or as many as are asked for.

FUZZ_EXAMPLES=100000 pytest tests/data/shards/test_fuzz.py tests/data/recordings/test_xlogfile.py

``docs/faults.md`` names all files that have such tests.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "")
FUZZ = settings(
    max_examples=int(EXAMPLES or 200),
    derandomize=not EXAMPLES,
    deadline=None,
    # The examples share what a fixture made, and leave it as it was.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
