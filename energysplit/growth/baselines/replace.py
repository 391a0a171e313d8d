"""What a baseline does between two trainings: decides the next network, and makes it.

The decision is a journal record; from it and the stage before, the next network follows bit for bit, now or after a
resume.
"""

from __future__ import annotations

from collections.abc import Mapping

from energysplit.costs import amount
from energysplit.errors import CheckFailed
from energysplit.graph import Network
from energysplit.growth.baselines.chain import Baseline
from energysplit.growth.baselines.importance import batch_norm_scales, l1_norms
from energysplit.growth.baselines.prune import one_threshold, same_ratio
from energysplit.growth.baselines.sizes import Limits
from energysplit.growth.folder import TrainingState
from energysplit.growth.random_weights import at_random
from energysplit.records import CostRecord, ReplacementRecord
from energysplit.surgery import narrow, narrow_state
from energysplit.types import Cost


def decide(baseline: Baseline, net: Network, stage: int) -> ReplacementRecord:
    """What takes the place of a trained network.

    Args:
        baseline: the method.
        net: the trained network of stage `stage` - 1.
        stage: the one to be begun.

    Raises:
        CheckFailed: no pruning reaches the stage's price, or the next network passes it.
    """
    limits = baseline.limits_of(net, stage)
    kind = baseline.settings.kind
    kept = _kept(baseline, net, limits, stage) if baseline.settings.prunes else {}
    if baseline.settings.prunes:
        widths = net.widths | {name: len(channels) for name, channels in kept.items()}
        before, after = (sum(each[name] for name in baseline.groups) for each in (net.widths, widths))
        said = f"{after} of {before} neurons stay in the groups that may lose some"
    else:
        found = baseline.widths[stage]
        assert found is not None
        widths = found
        total = sum(widths[name] for name in baseline.groups) / sum(
            baseline.seed.widths[name] for name in baseline.groups
        )
        what = "every group times one factor" if kind == "width_multiplier" else "the reference run's widths"
        said = f"{what}, {total:.3g} times the seed's neurons, with fresh weights"
    prices = limits.prices(widths)
    for name, cost in prices.items():
        if cost.value > limits.limit[name]:
            raise CheckFailed(
                f"the network of stage {stage} costs {amount(cost.value, cost.unit)} by {name!r}, more than the "
                f"{amount(limits.limit[name], cost.unit)} it may; nothing was kept of it"
            )
    return ReplacementRecord(
        kind=kind,
        fresh=not baseline.settings.prunes,
        widths=widths,
        kept={name: channels for name, channels in kept.items() if len(channels) < net.widths[name]},
        price={name: CostRecord.of(cost) for name, cost in prices.items()},
        limit=dict(limits.limit),
        status=f"{said}; {_used(prices, limits.limit)}",
    )


def made(baseline: Baseline, record: ReplacementRecord, before: TrainingState, random: int) -> TrainingState:
    """What the next stage starts from.

    Args:
        baseline: the method.
        record: what was decided.
        before: the trained stage.
        random: seed of fresh weights.
    """
    if record.fresh:
        return TrainingState(before.stage + 1, 0, at_random(baseline.seed, record.widths, random), {})
    net, optimiser = narrow(before.net, record.kept), narrow_state(before.net, record.kept, before.optimiser)
    return TrainingState(before.stage + 1, 0, net, optimiser)


def _kept(baseline: Baseline, net: Network, limits: Limits, stage: int) -> dict[str, list[int]]:
    """The channels that stay, by group that may lose some."""
    by_norm = baseline.settings.kind == "prune_l1"
    judge, choose = (l1_norms, same_ratio) if by_norm else (batch_norm_scales, one_threshold)
    importance = {name: judge(net, name) for name in baseline.groups}
    kept = choose(importance, net.widths, limits.within)
    if kept is None:
        raise CheckFailed(
            f"no network of fewer neurons is known to cost as little as stage {stage} may; lower growth.stages, or "
            "measure narrower networks where a table has none"
        )
    return kept


def _used(prices: Mapping[str, Cost], limits: Mapping[str, float]) -> str:
    """Prices against limits, in words."""
    return ", ".join(
        f"{name} {amount(cost.value, cost.unit)} of {amount(limits[name], cost.unit)}" for name, cost in prices.items()
    )
