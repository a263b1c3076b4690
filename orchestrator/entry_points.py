"""Functions of an operator's own, named in the settings as ``package.module:function``."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

_SHAPE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class EntryPointInvalid(ValueError):
    """It cannot be had; says what to do."""


def load(name: str) -> Callable[..., Any]:
    """What ``package.module:function`` names. Imports the module; raises `EntryPointInvalid`."""
    if not _SHAPE.fullmatch(name):
        raise EntryPointInvalid(f"expected package.module:function, not {name!r}")
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise EntryPointInvalid(
            f"the module {module_name!r} cannot be imported ({reason}); install it, or put its folder on PYTHONPATH"
        ) from error
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        is_what = "is not a function" if found is not None else "does not exist"
        raise EntryPointInvalid(f"{path!r} {is_what} in {module_name!r}; name one that can be called")
    called: Callable[..., Any] = found
    return called
