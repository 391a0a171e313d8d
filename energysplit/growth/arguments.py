"""What a recipe says of allocation, as `allocate` takes it: in a growth, in its dry run and long afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from energysplit.allocation.bounds import ceilings
from energysplit.graph import Network
from energysplit.growth.alignment import multiples
from energysplit.growth.priced import Priced
from energysplit.kinds import FRESH
from energysplit.recipe import Recipe
from energysplit.splitting.shrinkage import shrunk
from energysplit.surgery import group_norms
from energysplit.types import GroupBound, SplitIndex


def allocation_arguments(
    recipe: Recipe, priced: Priced, seed_price: Mapping[str, float], net: Network, index: Mapping[str, SplitIndex]
) -> dict[str, Any]:
    """The keyword arguments of `allocate` besides the network and its indices.

    Args:
        recipe: of the growth.
        priced: its providers and budgets.
        seed_price: price of the seed by budget or provider name.
        net: the network to be grown.
        index: its splitting indices.

    Raises:
        InputError: the recipe bounds groups that the network has not.
    """
    bounds = recipe_bounds(recipe)
    return {
        "budgets": priced.budgets,
        "method": recipe.growth.method,
        "multiple_of": multiples(recipe.growth.multiple_of, priced.limiting, net, ceilings(bounds, net.groups)),
        "weights": _weights(recipe, net, index),
        "seed_price": dict(seed_price),
        "risk": recipe.growth.risk,
        "mass": recipe.growth.mass if recipe.growth.signed else 1.0,
        "bounds": bounds,
    }


def judged(recipe: Recipe, index: Mapping[str, SplitIndex]) -> Mapping[str, SplitIndex]:
    """The indices with the values that neurons are chosen by."""
    return shrunk(index) if recipe.index.shrinkage == "group" else index


def recipe_bounds(recipe: Recipe) -> dict[str, GroupBound]:
    """Group name or pattern -> bound, as the recipe has them."""
    return {
        pattern: GroupBound(max_channels=bound.max_channels, frozen=bound.frozen)
        for pattern, bound in recipe.growth.bounds.items()
    }


def _weights(recipe: Recipe, net: Network, groups: Iterable[str]) -> dict[str, float]:
    """Factor of each group's gains: a step e changes the loss by e^2/2 per index, and steps may follow the norms.

    Values of fresh neurons are relative to their group's outgoing weights already.
    """
    if recipe.step.policy == "fixed" or recipe.index.method == FRESH:
        return dict.fromkeys(groups, 1.0)
    return {name: norm**2 for name, norm in group_norms(net, list(groups)).items()}
