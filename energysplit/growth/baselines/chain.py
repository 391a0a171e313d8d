"""A baseline made ready: the sizes it goes through, known as far as they are before anything is trained.

Fresh kinds (width_multiplier, from_scratch) go up with the reference run: stage 0 is the seed, and stage i a network of
the price (the widths) of the reference run's stage i, trained as many epochs as that run had had by then. Pruning kinds
start above the reference run's last stage and go down through its prices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from energysplit.allocation.bounds import tightest
from energysplit.costs import NetworkPricer
from energysplit.errors import RecipeError
from energysplit.graph import Network
from energysplit.graph.edit import duplicate
from energysplit.growth.arguments import recipe_bounds
from energysplit.growth.baselines.importance import scales
from energysplit.growth.baselines.penalty import price_weights, scale_penalty
from energysplit.growth.baselines.sizes import Limits, limit_of, widest
from energysplit.growth.priced import Priced
from energysplit.growth.random_weights import at_random
from energysplit.growth.reference import Reference, read_reference
from energysplit.recipe import Recipe
from energysplit.recipe.baseline import PENALISED, BaselineRecipe
from energysplit.types import CostProvider


@dataclass(frozen=True)
class Baseline:
    """A baseline ready to run.

    seed: its own copy, which no training touches. providers: of the budgets, by the name the journal shows; `first` is
    the first budget's. groups: those that follow the factor, or lose neurons. limits: by stage; none where the seed is
    taken as it is. widths: by stage, as far as they are known; None where they depend on what is learnt.
    """

    recipe: Recipe
    settings: BaselineRecipe
    reference: Reference
    seed: Network
    providers: Mapping[str, CostProvider]
    first: str
    groups: tuple[str, ...]
    limits: tuple[dict[str, float], ...]
    widths: tuple[dict[str, int] | None, ...] = ()

    @property
    def stages(self) -> int:
        """Transitions; there is one training more."""
        return self.recipe.growth.stages

    def limits_of(self, net: Network, stage: int) -> Limits:
        """What the network of a stage may cost, with pricers of a network of the same layers."""
        pricers = {name: NetworkPricer(net, provider) for name, provider in self.providers.items()}
        return Limits(pricers, self.limits[stage])

    def epochs(self, stage: int) -> int:
        """Epochs of a stage's training: with fresh weights, all that a grown network has had by then."""
        each = self.recipe.train.epochs_at
        return each(stage) if self.settings.prunes else sum(each(before) for before in range(stage + 1))

    def learning_rate(self, stage: int) -> float:
        """Learning rate of a stage's training: with fresh weights, that of a first training."""
        return self.recipe.train.learning_rate_at(stage if self.settings.prunes else 0)

    def start(self, random: int) -> Network:
        """The network of stage 0. random: seed of the weights, where it is not the recipe's seed network."""
        widths = self.widths[0]
        assert widths is not None
        return at_random(self.seed, widths, random)

    def penalty(self, net: Network, stage: int) -> Callable[[], Tensor] | None:
        """The sparsity term of a stage's training; None for kinds without, and where no pruning follows."""
        strength = self.settings.penalty_weight
        if strength == 0 or stage >= self.stages:
            return None
        weights = dict.fromkeys(self.groups, 1.0)
        if self.settings.kind == "morphnet":
            weights = price_weights(net, NetworkPricer(net, self.providers[self.first]), self.groups)
        return scale_penalty(net, weights, strength)


def load_baseline(recipe: Recipe, seed: Network, priced: Priced) -> Baseline:
    """The baseline of a recipe that has one.

    Args:
        recipe: with `baseline`.
        seed: its network, not trained yet; a copy is kept.
        priced: its providers and budgets.

    Raises:
        RunError: the reference run can't be read, or is not finished.
        RecipeError: it does not fit, no group may change, no pruning reaches its prices, or a layer can't be
            initialised at other widths.
    """
    settings = recipe.baseline
    assert settings is not None
    reference = read_reference(settings.sizes_of, "baseline.sizes_of", recipe.growth.stages)
    limiting = priced.limiting
    providers = {name: each for name, each in priced.providers.items() if any(each is other for other in limiting)}
    reference.check(seed, providers)
    baseline = Baseline(
        recipe=recipe,
        settings=settings,
        reference=reference,
        seed=duplicate(seed, {}),
        providers=providers,
        first=next(name for name, each in providers.items() if each is limiting[0]),
        groups=_groups(recipe, settings, seed),
        limits=_limits(recipe, settings, reference, providers),
    )
    chain = _pruned(baseline) if settings.prunes else _widened(baseline)
    for widths in (chain[0], chain[-1]):
        if widths is not None:
            at_random(baseline.seed, widths, 0)  # refuses what it can't initialise
    if settings.kind == "morphnet":
        price_weights(baseline.seed, NetworkPricer(baseline.seed, providers[baseline.first]), baseline.groups)
    return replace(baseline, widths=tuple(chain))


def _groups(recipe: Recipe, settings: BaselineRecipe, seed: Network) -> tuple[str, ...]:
    """The groups that change: those that can be split, that the recipe does not freeze, and that the kind can judge."""
    bounds = tightest(recipe_bounds(recipe), seed.groups)
    free = [
        name for name, group in seed.groups.items() if group.splittable and not (name in bounds and bounds[name].frozen)
    ]
    if not free:
        raise RecipeError(
            f"baseline.kind = {settings.kind!r}: no group may change its width; growth.bounds freeze every group that "
            "can be split. Free one"
        )
    if settings.kind not in PENALISED:
        return tuple(free)
    judged = tuple(name for name in free if scales(seed, name))
    if not judged:
        raise RecipeError(
            f"baseline.kind = {settings.kind!r} needs batch norms with learnt scales, and no group of model "
            f"{recipe.model.name!r} that may change has one; use kind = 'prune_l1', or a model with batch norm"
        )
    return judged


def _limits(
    recipe: Recipe, settings: BaselineRecipe, reference: Reference, names: Mapping[str, object]
) -> tuple[dict[str, float], ...]:
    """What the network of each stage may cost."""
    stages, last = recipe.growth.stages, reference.stages - 1
    if not settings.prunes:
        return ({}, *(limit_of(reference, stage, names) for stage in range(1, stages + 1)))
    start = limit_of(reference, last, names, settings.start_factor)
    return (start, *(limit_of(reference, last - stage, names) for stage in range(stages)))


def _widened(baseline: Baseline) -> list[dict[str, int] | None]:
    """The widths of the fresh kinds' stages."""
    chain: list[dict[str, int] | None] = [baseline.seed.widths]
    for stage in range(1, baseline.stages + 1):
        if baseline.settings.kind == "from_scratch":
            chain.append(baseline.reference.widths(stage))
        else:
            chain.append(_uniform(baseline, stage))
    return chain


def _pruned(baseline: Baseline) -> list[dict[str, int] | None]:
    """The widths of the pruning kinds' stages; where scales decide, only that there are some within the limits."""
    start = _uniform(baseline, 0)
    chain: list[dict[str, int] | None] = [start]
    smallest = start | dict.fromkeys(baseline.groups, 1)
    before = start
    for stage in range(1, baseline.stages + 1):
        limits = baseline.limits_of(baseline.seed, stage)
        if limits.passed_by(smallest):
            said = ", ".join(f"{name} {limit:g}" for name, limit in limits.limit.items())
            raise RecipeError(
                f"baseline.kind = {baseline.settings.kind!r}: with one neuron in each group that may lose some, the "
                f"network costs more than stage {stage} may ({said}); lower growth.stages or baseline.start, or free "
                "groups in growth.bounds"
            )
        if baseline.settings.kind == "prune_l1":
            found = widest(before, {name: before[name] for name in baseline.groups}, limits.within)
            if found is None:
                raise RecipeError(
                    f"baseline.kind = 'prune_l1': no network with the same part of each group left is known to cost as "
                    f"little as stage {stage} may; lower growth.stages, or measure narrower networks"
                )
            before = found.widths
            chain.append(before)
        else:
            chain.append(None)
    return chain


def _uniform(baseline: Baseline, stage: int) -> dict[str, int]:
    """The seed with all groups that may be widened times one factor, as wide as the stage's limits allow."""
    seed = baseline.seed
    bounds = tightest(recipe_bounds(baseline.recipe), seed.groups)
    ceilings = {}
    for name, group in seed.groups.items():
        bound = bounds.get(name)
        if group.splittable and not (bound and bound.frozen):
            ceilings[name] = max(group.channels, bound.max_channels or 0) if bound else 0
    found = widest(seed.widths, ceilings, baseline.limits_of(seed, stage).within)
    if found is None:
        raise RecipeError(
            f"{baseline.reference.said}: no uniformly widened network of this seed is within the price of its stage "
            f"{stage}; give a run that grew from the same seed"
        )
    return found.widths
