"""What a growth would do, found without training: the dry run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from energysplit.allocation.budgets import resolve
from energysplit.costs import NetworkPricer
from energysplit.costs.marginals import known_marginals
from energysplit.graph import Network
from energysplit.growth.alignment import Multiple, multiples
from energysplit.growth.setup import layout, prepare
from energysplit.recipe import Recipe
from energysplit.splitting import lobpcg, rmsprop
from energysplit.types import Cost, SplitGroup

OUTGOING_STEP = 0.2
"""Largest relative step that outgoing directions bore in an experiment (docs/outgoing.md, "Large steps")."""


@dataclass(frozen=True)
class GrowthPlan:
    """A recipe checked against data, model and budgets.

    prices, marginal: of the seed, by provider (and group; None where a table does not reach). multiples: what widths
    become multiples of in the first growth. budgets: name, scope, limit, unit, present price. stages:
    stage, epochs, largest price by budget ("1.5x" of a stage counts from the largest price of the stage before),
    images a training sees.
    """

    model: str
    image_shape: tuple[int, int, int]
    groups: dict[str, SplitGroup]
    prices: dict[str, Cost]
    marginal: dict[str, dict[str, float | None]]
    multiples: Multiple
    budgets: list[dict[str, Any]]
    stages: list[dict[str, Any]]
    index_images: int
    train_images: int
    index_sweeps: int
    device: str
    warnings: list[str]


def plan(recipe: Recipe) -> GrowthPlan:
    """The plan of a recipe; nothing is trained and nothing is written.

    Raises:
        InputError: what `grow` would refuse.
    """
    setup = prepare(recipe)
    setup.session.close()
    limits = resolve(setup.seed, setup.budgets, setup.seed_price)
    prices = setup.prices(setup.seed)
    marginal = {
        name: known_marginals(NetworkPricer(setup.seed, found)) for name, found in setup.priced.providers.items()
    }
    stages, reach = [], {limit.name: limit.present.value for limit in limits}
    images = len(setup.splits.train)
    for stage in range(recipe.growth.stages + 1):
        epochs = recipe.train.epochs_at(stage)
        stages.append({"stage": stage, "epochs": epochs, "limits": dict(reach), "images_train": epochs * images})
        for limit, budget in zip(limits, setup.budgets, strict=True):
            relative = budget.scope == "stage" and isinstance(budget.limit, str)
            factor = limit.limit / limit.present.value if relative and limit.present.value else 1.0
            reach[limit.name] = reach[limit.name] * factor if relative else limit.limit
    return GrowthPlan(
        model=recipe.model.name,
        image_shape=setup.splits.image_shape,
        groups=dict(setup.seed.groups),
        prices=prices,
        marginal={name: found for name, (found, _) in marginal.items()},
        multiples=multiples(recipe.growth.multiple_of, setup.priced.limiting, setup.seed),
        budgets=[
            {
                "name": limit.name,
                "scope": budget.scope,
                "limit": limit.limit,
                "unit": limit.pricer.unit,
                "present": limit.present.value,
            }
            for limit, budget in zip(limits, setup.budgets, strict=True)
        ],
        stages=stages,
        index_images=recipe.index.images,
        train_images=images,
        index_sweeps=_sweeps(recipe, setup.seed),
        device=str(setup.session.device),
        warnings=[
            *setup.priced.warnings,
            *_warnings(recipe, setup.seed.groups, set(layout(recipe, setup.seed).shapes)),
            *(f"{name} has no price for a wider network: {text}" for name, (_, text) in marginal.items() if text),
        ],
    )


def _sweeps(recipe: Recipe, seed: Network) -> int:
    """Passes over the sample the eigen-solver will make; the exact one makes one for each number of a neuron."""
    if recipe.index.method == "exact":
        return max((dims for _, dims in layout(recipe, seed).shapes.values()), default=0)
    return recipe.index.sweeps or (lobpcg if recipe.index.method == "lobpcg" else rmsprop).SWEEPS


def _warnings(recipe: Recipe, groups: dict[str, SplitGroup], indexed: set[str]) -> list[str]:
    """What a user should know before a long run."""
    linear = [name for name, group in groups.items() if group.splittable and name not in indexed]
    warnings = []
    if linear:
        warnings.append(
            "groups without a nonlinearity have no curvature and are left alone (index.linear = 'skip'): "
            + ", ".join(linear)
        )
    relative = recipe.step.policy == "relative"
    if recipe.index.linear == "outgoing" and relative and recipe.step.size > OUTGOING_STEP:
        warnings.append(
            f"index.linear = 'outgoing' bears about a third of the step that rows alone bear: step.size = "
            f"{recipe.step.size:g} is likely to undo what was trained; {OUTGOING_STEP:g} or less, or step.policy = "
            "'tolerance', is advised"
        )
    if recipe.index.curvature == "producer":
        warnings.append(
            "index.curvature = 'producer' ignores the followers' curvature; 'exact' predicts the real change"
        )
    return warnings
