"""For all tests: Hypothesis prints what is needed to run a failure again."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("repository", print_blob=True)
settings.load_profile("repository")
