"""The cost providers of a recipe, each made once: those of its report and those of its budgets, by name."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass

from energysplit.allocation.budgets import naming
from energysplit.costs.configured import configured, said_of_tables
from energysplit.recipe import Recipe
from energysplit.types import Budget, CostProvider


@dataclass(frozen=True)
class Priced:
    """Providers by the name the journal and the report show, and the budgets that use them.

    A name is the recipe's own word; where a recipe has one provider with different options, they are numbered in the
    order of the recipe, report first ("latency#1", "latency#2"). warnings: of tables that were measured elsewhere.
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
    words = [name for name, _ in made]
    providers, seen = {}, dict.fromkeys(words, 0)
    for (name, _), provider in made.items():
        seen[name] += 1
        providers[f"{name}#{seen[name]}" if words.count(name) > 1 else name] = provider
    budgets = tuple(
        Budget(made[_key(budget.provider, budget.options)], budget.limit, budget.scope) for budget in recipe.budget
    )
    return Priced(providers, budgets, tuple(dict.fromkeys(said)))


def _key(name: str, options: dict[str, object]) -> tuple[str, str]:
    return name, json.dumps(options, sort_keys=True, default=str)
