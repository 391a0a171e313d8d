"""How far a growth's copies move, and what that was predicted to do and did, all on held-out training images."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from energysplit.errors import CheckFailed
from energysplit.graph import Network
from energysplit.graph.trace import evaluating
from energysplit.growth.setup import Setup
from energysplit.kinds import FRESH, PAIR, every_kind
from energysplit.records import StepRecord
from energysplit.splitting import SplittingOperator
from energysplit.splitting.capture import Loss
from energysplit.splitting.operator import Batches
from energysplit.splitting.share import Share
from energysplit.splitting.statistics import norms_of
from energysplit.splitting.sums import weighted_sums
from energysplit.surgery import choose_step, function_error, group_norms, split
from energysplit.surgery.apply import Chosen
from energysplit.types import Allocation, SplitIndex

SMALL_STEP = 0.01
"""Part of a group's norm at which prediction and reality are compared: small enough for second order, large enough for
float32."""


def take_step(
    setup: Setup, net: Network, index: Mapping[str, SplitIndex], allocation: Allocation, held_out: Batches
) -> tuple[StepRecord, float]:
    """Check the surgery at step 0, choose the step, and compare prediction and reality on the held-out images.

    Args:
        setup: the recipe ready to run.
        net: the trained network, before the split.
        index: its splitting indices.
        allocation: the neurons to split, and in what way.
        held_out: images of the training part that the directions were not found on.

    Raises:
        CheckFailed: the split network does not compute the same function at step 0.

    Also returns the standard error of the sum of all indices, which the pass for the prediction's error gives too.
    """
    recipe = setup.recipe.step
    tolerance = setup.recipe.growth.function_tolerance
    chosen, ways = allocation.chosen, directions(index, allocation.chosen)

    def after(size: Mapping[str, float] | float) -> Network:
        return split(net, chosen, ways, size, mass=allocation.mass)

    found = setup.share.done(lambda: function_error(net, after(0.0), held_out[0][0]))
    error = setup.session.team.broadcast(found)
    if not error <= tolerance:
        raise CheckFailed(
            f"the split network's outputs differ by {error:.3g} of the largest output at step 0, at most {tolerance:g} "
            "allowed (growth.function_tolerance); nothing was kept of this split, the trained stage before it is intact"
        )

    def loss(network: Network) -> float:
        return _mean_loss(network, held_out, setup.loss, setup.share, setup.recipe.index.statistics)

    before = loss(net)
    if any(index[name].kind == FRESH for name in chosen):
        return _kept(chosen, before, loss(after(1.0)), error, tolerance)
    choice = choose_step(
        net,
        list(chosen),
        policy=recipe.policy,
        size=recipe.size if recipe.policy in ("fixed", "relative") else recipe.largest,
        tolerance=recipe.tolerance,
        loss_before=before,
        loss_after=lambda size: loss(after(size)),
    )
    norms = group_norms(net, list(chosen))
    shorter = min(1.0, *(SMALL_STEP * norms[name] / size for name, size in choice.size.items()))
    small = {name: size * shorter for name, size in choice.size.items()}
    realised, small_realised = (loss(after(size)) - before for size in (choice.size, small))
    predicted, every = _held_out_sums(setup, net, index, held_out, allocation, choice.size)
    record = StepRecord(
        policy=choice.policy,
        size=choice.size,
        loss_before=before,
        predicted_change=predicted[0],
        predicted_stderr=predicted[1],
        realised_change=realised,
        small_predicted_change=predicted[0] * shorter**2,
        small_realised_change=small_realised,
        function_error=error,
        function_tolerance=tolerance,
    )
    return record, every[1]


def _kept(chosen: Chosen, before: float, after: float, error: float, tolerance: float) -> tuple[StepRecord, float]:
    """The step of fresh neurons, which leaves the loss as it is: rows are drawn anew, and nothing reads them yet.

    The error of the sum of all values is not known: neurons share the images.
    """
    record = StepRecord(
        policy=FRESH,
        size=dict.fromkeys(chosen, 1.0),
        loss_before=before,
        predicted_change=0.0,
        predicted_stderr=0.0,
        realised_change=after - before,
        small_predicted_change=0.0,
        small_realised_change=after - before,
        function_error=error,
        function_tolerance=tolerance,
    )
    return record, float("nan")


def directions(index: Mapping[str, SplitIndex], chosen: Chosen) -> dict[str, SplitIndex]:
    """The directions along which the copies of the chosen neurons move, as `split` takes them."""
    return {name: index[name] for name in chosen}


def _mean_loss(net: Network, batches: Batches, loss_fn: Loss, share: Share, statistics: str) -> float:
    """Mean loss in eval mode, in the parameters' own precision: mixed precision would drown small changes.

    statistics: of batch norms, as for the indices.
    """

    def mine() -> float:
        with evaluating(net.module), norms_of(net.module, statistics), torch.inference_mode():
            parts = (share.of(*batch) for batch in batches)
            return sum(float(loss_fn(net.module(x), target)) * len(x) for x, target in parts if len(x))

    total = share.done(mine)
    return float(share.total(torch.tensor(total, dtype=torch.float64))) / sum(len(x) for x, _ in batches)


def _held_out_sums(
    setup: Setup,
    net: Network,
    index: Mapping[str, SplitIndex],
    held_out: Batches,
    allocation: Allocation,
    step: Mapping[str, float],
) -> list[tuple[float, float]]:
    """(Predicted loss change, standard error) of the split, and (sum, standard error) of all indices."""
    recipe = setup.recipe.index
    operator = SplittingOperator(
        net,
        held_out,
        setup.loss,
        curvature=recipe.curvature,
        linear=recipe.linear,
        kink_beta=recipe.kink_beta,
        statistics=recipe.statistics,
        precision=recipe.precision,
        cache_bytes=0,
        share=setup.share,
    )
    low, high = _weights(index, allocation, step)
    every = {name: found.value.isfinite().to(found.value) for name, found in index.items()}
    ends = [operator.vectors_of(index)]
    weightings = [[low], [every]]
    if high:
        uppers = {name: found.upper for name, found in index.items() if found.upper is not None}
        ends.append(operator.vectors_of(uppers))
        weightings = [[low, high], [every, {}]]
    return weighted_sums(operator, ends, weightings)


def _weights(
    index: Mapping[str, SplitIndex], allocation: Allocation, step: Mapping[str, float]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Group -> factor of each neuron's smallest and of its largest eigenvalue in the predicted loss change.

    The second holds only groups of which a neuron moves along the largest.
    """
    known = every_kind(allocation.mass)
    low: dict[str, Tensor] = {}
    high: dict[str, Tensor] = {}
    for name, channels in allocation.chosen.items():
        half = step[name] ** 2 / 2
        ways = channels.items() if isinstance(channels, Mapping) else [(channel, PAIR) for channel in channels]
        low[name], upper = torch.zeros_like(index[name].value), torch.zeros_like(index[name].value)
        for channel, kind in ways:
            low[name][channel] = half * known[kind].low
            upper[channel] = half * known[kind].high
        if bool((upper != 0).any()):
            high[name] = upper
    return low, high
