"""A saved stage's allocation asked again: the recipe's question with some of its answers changed.

Everything that is not changed is as the run had it: device, method, step sizes by group, bounds, risk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from energysplit.allocation import BLIND, allocate, budget_names
from energysplit.allocation.budgets import naming
from energysplit.amounts import factor
from energysplit.costs import NetworkPricer, names
from energysplit.costs.configured import configured, said_of_tables
from energysplit.costs.registry import takes
from energysplit.errors import BudgetError, InputError, NotMeasured
from energysplit.growth.arguments import allocation_arguments, judged
from energysplit.growth.given_sizes import place_seed
from energysplit.growth.priced import Priced, priced
from energysplit.growth.saved import SavedStage, grown_widths
from energysplit.kinds import kinds
from energysplit.recipe import BoundRecipe, HardwareRecipe, Recipe
from energysplit.types import Allocation, Budget, Cost, GroupBound, Scope, SplitIndex


@dataclass(frozen=True)
class GivenBudget:
    """A budget as a user names it: the provider's word, a limit with or without unit or a factor, and perhaps a scope.

    Without a scope an amount is a limit of the whole network and a factor multiplies the present price of the stage.
    """

    provider: str
    limit: str
    scope: Scope | None = None

    @property
    def full_scope(self) -> Scope:
        """The scope, or the one that goes without saying."""
        return self.scope or ("network" if factor(self.limit) is None else "stage")


@dataclass(frozen=True)
class Question:
    """What `allocate` is asked.

    budgets: in the order of the question. arguments: of `allocate`, besides network,
    indices and budgets. seed: budget name -> price of the seed; None where a table does not reach there.
    warnings: of tables that were measured elsewhere.
    """

    saved: SavedStage
    budgets: tuple[Budget, ...]
    arguments: dict[str, Any]
    seed: dict[str, Cost | None]
    warnings: tuple[str, ...]

    @property
    def index(self) -> Mapping[str, SplitIndex]:
        """The indices with the values that neurons are chosen by."""
        return judged(self.saved.recipe, self.saved.index)

    def solve(self) -> Allocation:
        """The allocation."""
        return allocate(self.saved.net, self.index, self.budgets, **self.arguments)

    def bought_at(self, budget: Budget) -> tuple[float, float] | None:
        """Price under a budget, and predicted gain, of what the run itself bought; None if nothing, or not known."""
        bought = self.saved.bought
        if bought is None:
            return None
        try:
            widths = grown_widths(self.saved.net.widths, bought)
            return NetworkPricer(self.saved.net, budget.provider).price(widths).value, bought.predicted_gain
        except NotMeasured:
            return None


def ask_again(
    saved: SavedStage,
    *,
    budgets: Sequence[GivenBudget] = (),
    hardware: HardwareRecipe | None = None,
    growth: Mapping[str, Any] | None = None,
    mass: float | None = None,
    bounds: Mapping[str, GroupBound] | None = None,
) -> Question:
    """The question of a saved stage under other circumstances.

    Args:
        saved: the stage.
        budgets: in place of the recipe's, if any.
        hardware: what is given of it goes before the recipe's; another profile has tables of its own.
        growth: keys of the recipe's [growth] that are changed (`method`, `risk`, `multiple_of`).
        mass: of signed splits; None: as the recipe has it.
        bounds: on groups, by name or pattern, besides the recipe's; the tightest counts, and the same pattern of the
            recipe is replaced.

    Raises:
        InputError: an unknown provider, or one that does not take what is given, or a mass below 1, or no method for a
            run that took its sizes of another.
        BudgetError: a budget can't be read or is given twice.
    """
    if saved.recipe.growth.sizes_of is not None and "method" not in (growth or {}):
        raise InputError(
            f"this run took the sizes of {saved.recipe.growth.sizes_of}, so its budgets chose nothing; give --method "
            "milp (or another) to choose by budgets instead"
        )
    given = {
        pattern: BoundRecipe(max_channels=bound.max_channels, frozen=bound.frozen)
        for pattern, bound in (bounds or {}).items()
    }
    changed = {**(growth or {}), "bounds": {**saved.recipe.growth.bounds, **given}}
    if mass is not None:
        kinds(mass)  # refuses what is no mass
        changed |= {"signed": mass > 1, "mass": mass}
    recipe = saved.recipe.model_copy(
        update={
            "hardware": _hardware(saved.recipe.hardware, hardware),
            "growth": saved.recipe.growth.model_copy(update=changed),
        }
    )
    # Without those of its report, which nobody asks for here and the device may have no table of.
    recipe = recipe.model_copy(update={"report": recipe.report.model_copy(update={"providers": (), "price": ()})})
    found = _priced(recipe, budgets) if budgets else priced(recipe)
    _refuse_unused(hardware, [budget.provider for budget in budgets or recipe.budget])
    seed, needed = _seed_prices(saved, found.budgets)
    arguments = allocation_arguments(recipe, found, needed, saved.net, saved.index)
    if recipe.growth.method in BLIND:
        arguments["seed"] = place_seed(recipe.seed, "allocate", saved.number)
    limits = tuple(arguments.pop("budgets"))
    return Question(saved, limits, arguments, seed, found.warnings)


def _hardware(base: HardwareRecipe, given: HardwareRecipe | None) -> HardwareRecipe:
    """What is given, over the recipe's."""
    if given is None:
        return base
    return HardwareRecipe(
        profile=given.profile or base.profile,
        tables=given.tables or (base.tables if given.profile is None else None),
        strict=given.strict or base.strict,
    )


def _priced(recipe: Recipe, budgets: Sequence[GivenBudget]) -> Priced:
    """The providers of given budgets, each made once, with the options the recipe has for it."""
    seen: set[tuple[str, Scope]] = set()
    for budget in budgets:
        if (budget.provider, budget.full_scope) in seen:
            raise BudgetError(
                f"budget {budget.provider!r} of scope {budget.full_scope!r} is given twice; expected one limit for "
                "each provider and scope"
            )
        seen.add((budget.provider, budget.full_scope))
    providers = {}
    with said_of_tables() as said:
        for name in dict.fromkeys(budget.provider for budget in budgets):
            with naming(name):
                providers[name] = configured(name, recipe.hardware, _options(recipe, name))
    made = tuple(Budget(providers[budget.provider], budget.limit, budget.full_scope) for budget in budgets)
    return Priced(dict(providers), made, tuple(dict.fromkeys(said)))


def _options(recipe: Recipe, name: str) -> dict[str, Any]:
    """The options the recipe's budget of that provider has; none where it has no such budget."""
    found = [budget.options for budget in recipe.budget if budget.provider == name]
    if any(options != found[0] for options in found):
        raise BudgetError(
            f"budget {name!r}: the recipe has it with different options, so it is not clear which are meant; leave "
            "--budget out, or grow with a recipe that has one of them"
        )
    return dict(found[0]) if found else {}


def _refuse_unused(hardware: HardwareRecipe | None, wanted: Sequence[str]) -> None:
    """Refuse what no budget's provider takes: it would change nothing, silently."""
    for option, value in (hardware or HardwareRecipe()).model_dump().items():
        if value and not any(takes(name, option) for name in wanted):
            able = ", ".join(name for name in names() if takes(name, option))
            raise InputError(
                f"--{option}: none of the budgets' providers ({', '.join(wanted)}) takes it; give a --budget of one "
                f"that does: {able}"
            )


def _seed_prices(saved: SavedStage, budgets: Sequence[Budget]) -> tuple[dict[str, Cost | None], dict[str, float]]:
    """The seed's price by budget name, and the values of those there are."""
    found: dict[str, Cost | None] = {}
    for name, budget in zip(budget_names(budgets), budgets, strict=True):
        try:
            found[name] = saved.seed_price(budget.provider)
        except NotMeasured:
            if budget.scope == "network" and factor(budget.limit) is not None:
                raise
            found[name] = None
    return found, {name: price.value for name, price in found.items() if price is not None}
