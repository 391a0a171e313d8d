"""What a growth would do, found without training: the dry run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from energysplit.allocation import BLIND
from energysplit.allocation.bounds import ceilings, tightest
from energysplit.allocation.budgets import resolve
from energysplit.amounts import factor
from energysplit.costs import NetworkPricer
from energysplit.costs.marginals import known_marginals
from energysplit.graph import Network
from energysplit.growth.alignment import Multiple, multiples
from energysplit.growth.arguments import recipe_bounds
from energysplit.growth.baselines.plan import BaselinePlan, plan_of, warnings_of
from energysplit.growth.setup import Setup, layout, prepare
from energysplit.growth.teacher import Teacher
from energysplit.kinds import FRESH
from energysplit.recipe import GrowthRecipe, Recipe
from energysplit.recipe.schema import IndexRecipe, StepRecipe
from energysplit.splitting import lobpcg, rmsprop
from energysplit.types import Cost, GroupBound, SplitGroup

OUTGOING_STEP = 0.2
"""Largest relative step that outgoing directions bore in an experiment (docs/outgoing.md, "Large steps")."""


@dataclass(frozen=True)
class GrowthPlan:
    """A recipe checked against data, model and budgets.

    prices, marginal: of the seed, by provider (and group; None where a table does not reach). multiples: what widths
    become multiples of in the first growth. bounds: the recipe's, by group that can be split. budgets: name, scope,
    limit, unit, present price. stages: stage, epochs, largest price by budget ("1.5x" of a stage counts from the
    largest price of the stage before), images a training sees. training: what trainings do beyond epochs of batches,
    in words. signed: whether indices are of both ends of the spectrum; fresh: whether they are of fresh neurons. sizes:
    the run whose sizes it takes, if any, and which neurons are split then; widths: group -> widths by stage as it will
    have them, where that is known. baseline: what is done in place of growing, where the recipe has a baseline.
    """

    model: str
    image_shape: tuple[int, int, int]
    groups: dict[str, SplitGroup]
    prices: dict[str, Cost]
    marginal: dict[str, dict[str, float | None]]
    multiples: Multiple
    bounds: dict[str, GroupBound]
    budgets: list[dict[str, Any]]
    stages: list[dict[str, Any]]
    training: list[str]
    index_images: int
    train_images: int
    index_sweeps: int
    signed: bool
    fresh: bool
    sizes: str
    widths: dict[str, list[int]]
    device: str
    warnings: list[str]
    baseline: BaselinePlan | None = None


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
        epochs = setup.epochs_at(stage)
        stages.append({"stage": stage, "epochs": epochs, "limits": dict(reach), "images_train": epochs * images})
        for limit, budget in zip(limits, setup.budgets, strict=True):
            times = factor(budget.limit) if budget.scope == "stage" else None
            reach[limit.name] = limit.limit if times is None else reach[limit.name] * times
    groups = dict(setup.seed.groups)
    bounds = {name: bound for name, bound in tightest(recipe_bounds(recipe), groups).items() if groups[name].splittable}
    return GrowthPlan(
        model=recipe.model.name,
        image_shape=setup.splits.image_shape,
        groups=groups,
        prices=prices,
        marginal={name: found for name, (found, _) in marginal.items()},
        multiples=multiples(
            recipe.growth.multiple_of,
            setup.priced.limiting,
            setup.seed,
            ceilings(recipe_bounds(recipe), groups),
        ),
        bounds=bounds,
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
        training=_training(recipe, setup.teacher),
        index_images=recipe.index.images,
        train_images=images,
        index_sweeps=_sweeps(recipe, setup.seed),
        signed=recipe.growth.signed,
        fresh=recipe.index.method == FRESH,
        sizes=_sizes(recipe),
        widths=_widths(setup),
        device=str(setup.session.device),
        warnings=[
            *setup.priced.warnings,
            *_too_long_warnings(recipe),
            *_patience_warnings(recipe, max(map(setup.epochs_at, range(len(stages))))),
            *(_warnings(recipe, groups, set(layout(recipe, setup.seed).shapes), bounds) if not setup.baseline else ()),
            *(warnings_of(recipe) if setup.baseline else ()),
            *(f"{name} has no price for a wider network: {text}" for name, (_, text) in marginal.items() if text),
        ],
        baseline=plan_of(setup.baseline) if setup.baseline else None,
    )


def _sweeps(recipe: Recipe, seed: Network) -> int:
    """Passes over the sample the eigen-solver will make; the exact one makes one for each number of a neuron."""
    if recipe.index.method == "exact":
        return max((dims for _, dims in layout(recipe, seed).shapes.values()), default=0)
    if recipe.index.method == "random":
        return 0
    if recipe.index.method == FRESH:
        return 1
    return recipe.index.sweeps or (lobpcg if recipe.index.method == "lobpcg" else rmsprop).SWEEPS


def _sizes(recipe: Recipe) -> str:
    """Whose sizes growths take, in words; "" where the budgets decide."""
    growth = recipe.growth
    if growth.sizes_of is None:
        return ""
    which = "random neurons" if growth.method == "random" else "those with the smallest indices"
    return f"as many neurons of each group as {growth.sizes_of} split, {which}"


def _widths(setup: Setup) -> dict[str, list[int]]:
    """The widths of every stage, of groups that grow, where another run gives them."""
    if setup.sizes is None:
        return {}
    stages = [setup.sizes.widths(stage) for stage in range(setup.recipe.growth.stages + 1)]
    return {name: [at[name] for at in stages] for name in stages[0] if stages[0][name] != stages[-1][name]}


def _training(recipe: Recipe, teacher: Teacher | None) -> list[str]:
    """What is on of docs/training.md."""
    train = recipe.train
    said = []
    if train.patience is not None:
        least = f" of at least {train.min_improvement:.2%}" if train.min_improvement else ""
        said.append(f"ends after {train.patience} epochs without an improvement of the validation loss{least}")
    if train.accumulate > 1:
        said.append(f"{train.accumulate} batches an update, {train.accumulate * train.batch_size} images")
    if train.ema is not None:
        said.append(f"moving average of the weights, decay {train.ema:g}")
    if recipe.data.augment == "randaugment":
        said.append("RandAugment, two operations an image")
    if teacher is not None:
        loss = teacher.distillation
        said.append(f"teacher {teacher.folder}, weight {loss.weight:g}, temperature {loss.temperature:g}")
    if recipe.growth.last_weights == "random" and recipe.baseline is None and recipe.growth.stages:
        said.append("the last one starts from random weights, at the widths found (growth.last_weights)")
    if recipe.run.tensorboard:
        said.append("curves for TensorBoard")
    return said


def _without_effect(recipe: Recipe) -> list[str]:
    """Keys that were given and have no part in a growth by fresh neurons."""
    default = IndexRecipe()
    words = ("curvature", "linear", "sweeps", "growing", "kink_beta")
    given = [f"index.{word}" for word in words if getattr(recipe.index, word) != getattr(default, word)]
    given += ["step"] if recipe.step != StepRecipe() else []
    return [f"no effect with index.method = 'fresh': {', '.join(given)}"] if given else []


def _warnings(
    recipe: Recipe, groups: dict[str, SplitGroup], indexed: set[str], bounds: dict[str, GroupBound]
) -> list[str]:
    """What a user should know before a long run."""
    linear = [name for name, group in groups.items() if group.splittable and name not in indexed]
    warnings = []
    if linear:
        warnings.append(
            "groups without a nonlinearity have no curvature and are left alone (index.linear = 'skip'): "
            + ", ".join(linear)
        )
    if recipe.index.method == FRESH:
        warnings += _without_effect(recipe)
    relative = recipe.step.policy == "relative"
    if recipe.index.linear == "outgoing" and relative and recipe.step.size > OUTGOING_STEP:
        warnings.append(
            f"index.linear = 'outgoing' bears about a third of the step that rows alone bear: step.size = "
            f"{recipe.step.size:g} is likely to undo what was trained; {OUTGOING_STEP:g} or less, or step.policy = "
            "'tolerance', is advised"
        )
    if recipe.index.curvature == "producer" and recipe.index.method != FRESH:
        warnings.append(
            "index.curvature = 'producer' ignores the followers' curvature; 'exact' predicts the real change"
        )
        if recipe.index.statistics == "batch":
            warnings.append("the paper's index has index.statistics = 'running'; with 'batch' it is another one")
    if recipe.growth.mass != GrowthRecipe.model_fields["mass"].default and not recipe.growth.signed:
        warnings.append("growth.mass has no effect without growth.signed = true")
    if recipe.growth.sizes_of is not None and recipe.growth.multiple_of != 1:
        warnings.append("growth.multiple_of has no effect with growth.sizes_of, whose run says how wide groups become")
    if recipe.growth.last_weights == "random" and recipe.growth.stages == 0:
        warnings.append("growth.last_weights has no effect without a growth (growth.stages = 0)")
    if recipe.growth.risk and (recipe.growth.sizes_of is not None or recipe.growth.method in BLIND):
        warnings.append("growth.risk has no effect where neurons are split whatever their index")
    for name, bound in bounds.items():
        if bound.max_channels is not None and bound.max_channels < groups[name].channels:
            warnings.append(
                f"group {name!r} has {groups[name].channels} channels, more than the {bound.max_channels} that "
                f"growth.bounds allow it; it stays at {groups[name].channels}"
            )
    return warnings


def _too_long_warnings(recipe: Recipe) -> list[str]:
    """What lists say of trainings that there are not, as where growth.stages was made smaller and they were not."""
    trainings = recipe.growth.stages + 1
    return [
        f"train.{key} has {len(values)} values for {trainings} trainings (growth.stages + 1): the last takes "
        f"{values[trainings - 1]:g}, and {', '.join(f'{value:g}' for value in values[trainings:])} is not used"
        for key in ("epochs", "learning_rate")
        if recipe.baseline is None
        and isinstance(values := getattr(recipe.train, key), tuple)
        and len(values) > trainings
    ]


def _patience_warnings(recipe: Recipe, longest: int) -> list[str]:
    """What a user of train.patience may not expect. longest: epochs of the longest training."""
    train = recipe.train
    if train.patience is None:
        return ["train.min_improvement has no effect without train.patience"] if train.min_improvement else []
    if train.patience >= longest - 1:
        return [f"train.patience = {train.patience} can't end a training of {longest} epochs before its time"]
    if train.schedule == "cosine":
        return [
            "train.schedule = 'cosine' falls towards the last of train.epochs: a training that train.patience ends "
            "before misses the low rates; 'constant' or 'step' go better with it"
        ]
    return []
