"""Recipes: everything a growth needs to know, read from TOML and checked before anything runs."""

from energysplit.recipe.changes import changes, completed
from energysplit.recipe.load import from_dict, load, override
from energysplit.recipe.schema import (
    BoundRecipe,
    BudgetRecipe,
    DataRecipe,
    ExportRecipe,
    GrowthRecipe,
    HardwareRecipe,
    IndexRecipe,
    ModelRecipe,
    Recipe,
    ReportRecipe,
    RunRecipe,
    StepRecipe,
    TrainRecipe,
)

__all__ = [
    "BoundRecipe",
    "BudgetRecipe",
    "DataRecipe",
    "ExportRecipe",
    "GrowthRecipe",
    "HardwareRecipe",
    "IndexRecipe",
    "ModelRecipe",
    "Recipe",
    "ReportRecipe",
    "RunRecipe",
    "StepRecipe",
    "TrainRecipe",
    "changes",
    "completed",
    "from_dict",
    "load",
    "override",
]
