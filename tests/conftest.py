"""For all tests: Hypothesis prints what is needed to run a failure again.

It searches anew at every run, but not in CI: there the same commit gives the same result.
"""

from __future__ import annotations

import os
import tempfile

from hypothesis import settings

settings.register_profile("repository", print_blob=True, derandomize=bool(os.environ.get("CI")))
settings.load_profile("repository")

# Keys that somebody has made on this machine are none of the tests' business.
os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="orchestrator-tests-")
