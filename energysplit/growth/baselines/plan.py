"""What a baseline will do, stage by stage, as far as it is known before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

from energysplit.growth.baselines.chain import Baseline
from energysplit.recipe import Recipe

_DONE = {
    "width_multiplier": "each stage a network of uniformly widened groups with fresh weights",
    "from_scratch": "each stage a network of the reference run's widths with fresh weights",
    "prune_l1": "each stage the trained network without the neurons of the smallest weights, the same part of each "
    "group",
    "prune_batch_norm": "each stage the trained network without the neurons of the smallest batch-norm scales",
    "morphnet": "each stage the trained network without the neurons of the smallest batch-norm scales, on which the "
    "training presses by their price",
}


@dataclass(frozen=True)
class PlannedStage:
    """A stage to come.

    widths, prices: None where they depend on what is learnt. prices, limits: by provider name, in its unit; no limits
    where the seed is taken as it is.
    """

    stage: int
    epochs: int
    learning_rate: float
    widths: dict[str, int] | None
    prices: dict[str, float] | None
    limits: dict[str, float]


@dataclass(frozen=True)
class BaselinePlan:
    """said: the method in words. units: of prices, by provider name."""

    said: str
    stages: tuple[PlannedStage, ...]
    units: dict[str, str]


def plan_of(baseline: Baseline) -> BaselinePlan:
    """The plan of a baseline that is ready to run."""
    limits = [baseline.limits_of(baseline.seed, stage) for stage in range(baseline.stages + 1)]
    stages = tuple(
        PlannedStage(
            stage=stage,
            epochs=baseline.epochs(stage),
            learning_rate=baseline.learning_rate(stage),
            widths=widths,
            prices=None
            if widths is None
            else {name: each.value for name, each in limits[stage].prices(widths).items()},
            limits=dict(limits[stage].limit),
        )
        for stage, widths in enumerate(baseline.widths)
    )
    units = {name: pricer.unit for name, pricer in limits[0].pricers.items()}
    settings = baseline.settings
    said = f"baseline {settings.kind}: {_DONE[settings.kind]}; sizes of {baseline.reference.run}"
    if settings.penalty_weight:
        said += f"; penalty {settings.penalty_weight:g} on the batch norms' scales while another pruning follows"
    return BaselinePlan(said, stages, units)


def warnings_of(recipe: Recipe) -> list[str]:
    """Keys of a recipe that a baseline does not use, though they were given."""
    warnings = []
    if recipe.growth.multiple_of != 1:
        warnings.append("growth.multiple_of has no effect in a baseline: its widths are rounded to whole neurons only")
    if recipe.growth.last_weights != "inherited":
        warnings.append("growth.last_weights has no effect in a baseline: its kind says what trainings start from")
    return warnings
