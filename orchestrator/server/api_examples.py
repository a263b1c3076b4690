"""Examples for /openapi.json, by the name of the body that each is one of."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

EXAMPLES: dict[str, Any] = json.loads(
    resources.files("orchestrator.server").joinpath("api_examples.json").read_text("utf-8")
)
