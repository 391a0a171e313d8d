"""The growth loop: train, index, allocate, split, again; resumable at any moment.

What it offers, and its modules, are imported when they are first used: a journal is read in a second, and the loop
loads torch and solvers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from energysplit.growth.loop import grow
    from energysplit.growth.planning import GrowthPlan, plan

__all__ = ["GrowthPlan", "grow", "plan"]

_HOME = {"GrowthPlan": "planning", "grow": "loop", "plan": "planning"}


def __getattr__(name: str) -> Any:
    module = f"{__name__}.{_HOME.get(name, name)}"
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(found, name) if name in _HOME else found
