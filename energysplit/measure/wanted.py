"""What to measure: the family of a model's name, or of a recipe."""

from __future__ import annotations

import torch

from energysplit import data, models
from energysplit.amounts import factor, parse_limit
from energysplit.costs import price
from energysplit.costs.configured import configured
from energysplit.errors import InputError
from energysplit.graph import trace
from energysplit.measure.family import COUNTED, Family
from energysplit.recipe import Recipe
from energysplit.types import CostProvider


def family_of_model(
    name: str, image: tuple[int, int, int] | None = None, low: float = 0.2, high: float = 1.0
) -> Family:
    """A model at `low` to `high` times its own widths.

    Args:
        name: of a model, as `models.build` takes it.
        image: channels, height and width; the model's default if not given.
        low: smallest width of a group, relative to the model's own.
        high: largest.

    Raises:
        InputError: no such model, or widths that are no range.
    """
    if not 0 < low <= high < float("inf"):
        raise InputError(f"widths {low:g},{high:g} given; expected two numbers, 0 < LOW <= HIGH, such as 0.2,1")
    name = models.resolve(name)
    net = trace(models.build(name).eval(), torch.zeros(1, *(image or models.default_image(name))))
    return Family.scaled(name, net, low, high)


def family_of_recipe(recipe: Recipe) -> Family:
    """The seed of a recipe, at every width its budgets let one group reach."""
    shape = data.image_shape(recipe.data.name, recipe.data.image_size)
    seed = models.build_seed(recipe.model.name, recipe.model.args)
    net = trace(seed.eval(), torch.zeros(1, *shape))
    limits: list[tuple[CostProvider, float]] = []
    for budget in recipe.budget:
        if budget.provider not in COUNTED:
            continue
        provider = configured(budget.provider, recipe.hardware, budget.options)
        if isinstance(budget.limit, str):
            times = factor(budget.limit)
            if times is None:
                limit = parse_limit(budget.limit, provider.unit)
            else:
                times = times ** max(1, recipe.growth.stages) if budget.scope == "stage" else times
                limit = times * price(net, provider).value
        else:
            limit = budget.limit
        limits.append((provider, limit))
    return Family.grown(f"{recipe.model.name} of {recipe.name}", net, limits, recipe.growth.stages)
