"""The cost providers of a recipe, each made once: those of its report and those of its budgets, by name."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass

from energysplit.allocation.budgets import naming
from energysplit.costs import names
from energysplit.costs.configured import configured, said_of_tables
from energysplit.errors import InputError, RecipeError
from energysplit.recipe import HardwareRecipe, PriceRecipe, Recipe
from energysplit.types import Budget, CostProvider


@dataclass(frozen=True)
class Priced:
    """Providers by the name the journal and the report show, and the budgets that use them.

    A name is the recipe's own word; where a recipe has one provider with different options, they are numbered in the
    order of the recipe, report first ("latency#1", "latency#2"). Prices of [[report.price]] have the names given there,
    and come last. warnings: of tables that were measured elsewhere.
    """

    providers: dict[str, CostProvider]
    budgets: tuple[Budget, ...]
    warnings: tuple[str, ...]

    @property
    def limiting(self) -> list[CostProvider]:
        """The providers of the budgets."""
        return [budget.provider for budget in self.budgets if not isinstance(budget.provider, str)]


def priced(recipe: Recipe) -> Priced:
    """The providers and budgets of a recipe, on its hardware.

    Raises:
        InputError: an unknown provider, options it does not take, or what it refuses itself.
        RecipeError: the same of a [[report.price]], or it has the name of something else.
    """
    wanted: dict[tuple[str, str], dict[str, object]] = {}
    for name in recipe.report.providers:
        wanted[_key(name, {})] = {}
    for budget in recipe.budget:
        wanted[_key(budget.provider, budget.options)] = budget.options
    limiting = {_key(budget.provider, budget.options) for budget in recipe.budget}
    made: dict[tuple[str, str], CostProvider] = {}
    with said_of_tables() as said:
        for key, options in wanted.items():
            with naming(key[0]) if key in limiting else nullcontext():
                made[key] = configured(key[0], recipe.hardware, options)
        further = {price.name: _further(price, recipe.hardware) for price in recipe.report.price}
    words = [name for name, _ in made]
    providers, seen = {}, dict.fromkeys(words, 0)
    for (name, _), provider in made.items():
        seen[name] += 1
        providers[f"{name}#{seen[name]}" if words.count(name) > 1 else name] = provider
    for name in further:
        if name in (*names(), *words):
            raise RecipeError(
                f"report.price: name {name!r} is that of a cost provider; give the price one of its own, such as "
                f"'{name}-pixel'"
            )
    providers |= further
    budgets = tuple(
        Budget(made[_key(budget.provider, budget.options)], budget.limit, budget.scope) for budget in recipe.budget
    )
    return Priced(providers, budgets, tuple(dict.fromkeys(said)))


def _further(price: PriceRecipe, hardware: HardwareRecipe) -> CostProvider:
    """The provider of a [[report.price]].

    Raises:
        RecipeError: an unknown provider, options it does not take, or what it refuses itself.
    """
    try:
        return configured(price.provider, hardware, price.options)
    except InputError as error:
        raise RecipeError(f"report.price {price.name!r}: {error}") from error


def _key(name: str, options: dict[str, object]) -> tuple[str, str]:
    return name, json.dumps(options, sort_keys=True, default=str)
