"""energysplit grows a small neural network by splitting neurons, inside a budget of MACs, milliseconds or millijoules.

The public interface; everything is imported when it is first used, so that the command line starts at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from energysplit.allocation import allocate
    from energysplit.costs import cost_provider, marginal_price, price, register_cost
    from energysplit.errors import (
        BudgetError,
        CheckFailed,
        CheckpointError,
        DataError,
        EnergysplitError,
        InputError,
        NotMeasured,
        RecipeError,
        UnsupportedModel,
    )
    from energysplit.graph import Network, trace
    from energysplit.growth import grow
    from energysplit.output.checkpoint import load, save
    from energysplit.output.onnx_export import export_onnx
    from energysplit.recipe import Recipe
    from energysplit.records import GrowthRecord, GrowthResult
    from energysplit.splitting import splitting_index
    from energysplit.surgery import split
    from energysplit.types import Allocation, Budget, Cost, GroupBound, LayerCase, SplitGroup, SplitIndex

_HOME = {
    "energysplit.allocation": ("allocate",),
    "energysplit.costs": ("cost_provider", "marginal_price", "price", "register_cost"),
    "energysplit.errors": (
        "BudgetError",
        "CheckFailed",
        "CheckpointError",
        "DataError",
        "EnergysplitError",
        "InputError",
        "NotMeasured",
        "RecipeError",
        "UnsupportedModel",
    ),
    "energysplit.graph": ("Network", "trace"),
    "energysplit.growth": ("grow",),
    "energysplit.output.checkpoint": ("load", "save"),
    "energysplit.output.onnx_export": ("export_onnx",),
    "energysplit.recipe": ("Recipe",),
    "energysplit.records": ("GrowthRecord", "GrowthResult"),
    "energysplit.splitting": ("splitting_index",),
    "energysplit.surgery": ("split",),
    "energysplit.types": (
        "Allocation",
        "Budget",
        "Cost",
        "GroupBound",
        "LayerCase",
        "SplitGroup",
        "SplitIndex",
    ),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Allocation",
    "Budget",
    "BudgetError",
    "CheckFailed",
    "CheckpointError",
    "Cost",
    "DataError",
    "EnergysplitError",
    "GroupBound",
    "GrowthRecord",
    "GrowthResult",
    "InputError",
    "LayerCase",
    "Network",
    "NotMeasured",
    "Recipe",
    "RecipeError",
    "SplitGroup",
    "SplitIndex",
    "UnsupportedModel",
    "allocate",
    "cost_provider",
    "export_onnx",
    "grow",
    "load",
    "marginal_price",
    "price",
    "register_cost",
    "save",
    "split",
    "splitting_index",
    "trace",
]


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives, once."""
    if name == "__version__":
        from importlib.metadata import version

        return version("energysplit")
    if name not in _MODULE:
        raise AttributeError(f"module 'energysplit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
