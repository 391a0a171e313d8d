"""Which neurons a growth splits: those its budgets buy, or as many of each group as another run split there.

With another run's sizes (`growth.sizes_of`) only which neurons of a group are split is decided here. So two ways to
choose neurons or their directions are compared at the same layer widths, stage by stage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping, Sequence

from energysplit.allocation import allocate
from energysplit.allocation.bounds import ceilings
from energysplit.allocation.budgets import Limit
from energysplit.allocation.given import allocate_given
from energysplit.amounts import factor
from energysplit.costs import amount
from energysplit.errors import RecipeError, RunError
from energysplit.graph import Network
from energysplit.growth.arguments import allocation_arguments, judged, recipe_bounds
from energysplit.growth.priced import Priced
from energysplit.growth.reference import Reference, read_reference
from energysplit.recipe import Recipe
from energysplit.types import Allocation, Budget, SplitIndex

KEY = "growth.sizes_of"
_ROUNDING = 1e-12


def place_seed(seed: int, *place: int | str) -> int:
    """A seed for one place of a run (stage, epoch, purpose), the same in every run of that seed."""
    digest = hashlib.sha256("/".join(map(str, (seed, *place))).encode()).digest()
    return int.from_bytes(digest[:7], "big")


def decide(
    recipe: Recipe,
    priced: Priced,
    seed_price: Mapping[str, float],
    sizes: Reference | None,
    stage: int,
    net: Network,
    index: Mapping[str, SplitIndex],
) -> Allocation:
    """The neurons to split out of a stage.

    Args:
        recipe: of the growth.
        priced: its providers and budgets.
        seed_price: price of the seed by budget or provider name.
        sizes: the run whose sizes it takes; None: what the budgets buy.
        stage: number of the stage.
        net: its trained network.
        index: its splitting indices.

    Raises:
        RunError: the networks of both runs differ in their widths.
        InputError: what `allocate` or `allocate_given` refuses.
    """
    arguments = allocation_arguments(recipe, priced, seed_price, net, index)
    arguments["seed"] = place_seed(recipe.seed, "allocate", stage)
    index = judged(recipe, index)
    if sizes is None:
        return allocate(net, index, **arguments)
    if sizes.widths(stage) != net.widths:
        raise RunError(
            f"{sizes.said}: its stage {stage} has other widths ({sizes.widths(stage)}) than this run's "
            f"({net.widths}); was it grown again since this run began? Put it back, or begin in a new run folder"
        )
    taken = ("budgets", "weights", "seed_price", "seed")
    return allocate_given(
        net,
        index,
        sizes=added(sizes, stage),
        at_random=recipe.growth.method == "random",
        said=f"{sizes.run} did out of stage {stage}",
        **{key: arguments[key] for key in taken},
    )


def added(sizes: Reference, stage: int) -> dict[str, int]:
    """Group -> channels that the run added out of a stage, groups that grew only."""
    before, after = sizes.widths(stage), sizes.widths(stage + 1)
    return {name: after[name] - before[name] for name in before if after[name] != before[name]}


def given_sizes(
    recipe: Recipe, seed: Network, budgets: Sequence[Budget], limits: Sequence[Limit], indexed: Container[str]
) -> Reference | None:
    """The run whose sizes the recipe asks for, checked against its network, bounds and budgets; None if it asks none.

    Args:
        recipe: of the growth.
        seed: its seed network.
        budgets: its budgets.
        limits: the same, resolved at the seed.
        indexed: groups that have splitting indices under this recipe.

    Raises:
        RunError: the run is not finished or can't be read.
        RecipeError: its sizes are not to be had: of another network, above a bound or a budget, or of groups without
            splitting indices.
    """
    if recipe.growth.sizes_of is None:
        return None
    if recipe.baseline is not None:
        raise RecipeError(f"{KEY} is for growths; a [baseline] has a sizes_of of its own, so leave {KEY} out")
    found = read_reference(recipe.growth.sizes_of, KEY, recipe.growth.stages)
    found.check(seed, {})
    held = ceilings(recipe_bounds(recipe), seed.groups)
    for stage in range(recipe.growth.stages):
        before, after = found.widths(stage), found.widths(stage + 1)
        for name, count in added(found, stage).items():
            there = f"{found.said}: that run grew {name!r} from {before[name]} to {after[name]} out of stage {stage}"
            if not 0 < count <= before[name]:
                raise RecipeError(f"{there}, and a split makes two of a neuron at most; give a run of plain splits")
            if after[name] > held.get(name, after[name]):
                raise RecipeError(f"{there}, above {held[name]}, which growth.bounds allow; leave the bound out")
            if name not in indexed:
                raise RecipeError(
                    f"{there}, but it has no splitting indices here; give both recipes the same index.linear"
                )
    _check_budgets(found, recipe.growth.stages, budgets, limits)
    return found


def _check_budgets(sizes: Reference, stages: int, budgets: Sequence[Budget], limits: Sequence[Limit]) -> None:
    """Refuse sizes that pass a budget at some stage, before any training; `allocate_given` has the last word.

    Raises:
        RecipeError: they do.
    """
    for budget, limit in zip(budgets, limits, strict=True):
        times = factor(budget.limit) if budget.scope == "stage" else None
        for stage in range(stages):
            allowed = limit.limit if times is None else times * limit.pricer.value(sizes.widths(stage))
            price = limit.pricer.price(sizes.widths(stage + 1))
            if price.value > allowed * (1 + _ROUNDING):
                raise RecipeError(
                    f"{sizes.said}: what that run grew out of stage {stage} costs {amount(price.value, price.unit)}, "
                    f"more than budget {limit.name!r} allows here, {amount(allowed, price.unit)}; give this recipe "
                    "that run's budgets, or higher ones"
                )
