"""Recipes: everything a growth needs to know, read from TOML and checked before anything runs."""

from energysplit.recipe.changes import before_and_now, changes, completed
from energysplit.recipe.load import Setting, from_dict, load, override
from energysplit.recipe.schema import (
    BaselineRecipe,
    BoundRecipe,
    BudgetRecipe,
    DataRecipe,
    ExportRecipe,
    GrowthRecipe,
    HardwareRecipe,
    IndexRecipe,
    ModelRecipe,
    PriceRecipe,
    Recipe,
    ReportRecipe,
    RunRecipe,
    StepRecipe,
    TrainRecipe,
)

__all__ = [
    "BaselineRecipe",
    "BoundRecipe",
    "BudgetRecipe",
    "DataRecipe",
    "ExportRecipe",
    "GrowthRecipe",
    "HardwareRecipe",
    "IndexRecipe",
    "ModelRecipe",
    "PriceRecipe",
    "Recipe",
    "ReportRecipe",
    "RunRecipe",
    "Setting",
    "StepRecipe",
    "TrainRecipe",
    "before_and_now",
    "changes",
    "completed",
    "from_dict",
    "load",
    "override",
]
