"""The growth loop: train, index, allocate, split, again; resumable at any moment.

What it offers is imported when it is first used: a journal is read in a second, and the loop loads torch and solvers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from energysplit.growth.loop import grow
    from energysplit.growth.planning import GrowthPlan, plan

__all__ = ["GrowthPlan", "grow", "plan"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{'loop' if name == 'grow' else 'planning'}"), name)
