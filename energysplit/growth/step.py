"""How far a growth's copies move, and what that was predicted to do and did, all on held-out training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from energysplit.errors import CheckFailed
from energysplit.graph import Network
from energysplit.graph.trace import evaluating
from energysplit.growth.setup import Setup
from energysplit.splitting import SplittingOperator
from energysplit.splitting.capture import Loss
from energysplit.splitting.operator import Batches
from energysplit.surgery import choose_step, function_error, group_norms, split
from energysplit.surgery.apply import Directions
from energysplit.types import SplitIndex, StepRecord

SMALL_STEP = 0.01
"""Part of a group's norm at which prediction and reality are compared: small enough for second order, large enough for
float32."""


def take_step(
    setup: Setup, net: Network, index: dict[str, SplitIndex], chosen: dict[str, list[int]], held_out: Batches
) -> tuple[StepRecord, float]:
    """Check the surgery at step 0, choose the step, and compare prediction and reality on the held-out images.

    Args:
        setup: the recipe ready to run.
        net: the trained network, before the split.
        index: its splitting indices.
        chosen: group -> neurons to split.
        held_out: images of the training part that the directions were not found on.

    Raises:
        CheckFailed: the split network does not compute the same function at step 0.

    Also returns the standard error of the sum of all indices, which the pass for the prediction's error gives too.
    """
    recipe = setup.recipe.step
    tolerance = setup.recipe.growth.function_tolerance
    error = function_error(net, split(net, chosen), held_out[0][0])
    if not error <= tolerance:
        raise CheckFailed(
            f"the split network's outputs differ by {error:.3g} of the largest output at step 0, at most {tolerance:g} "
            "allowed (growth.function_tolerance); nothing was kept of this split, the trained stage before it is intact"
        )
    ways = directions(index, chosen)

    def loss(network: Network) -> float:
        return _mean_loss(network, held_out, setup.loss)

    before = loss(net)
    choice = choose_step(
        net,
        list(chosen),
        policy=recipe.policy,
        size=recipe.size if recipe.policy in ("fixed", "relative") else recipe.largest,
        tolerance=recipe.tolerance,
        loss_before=before,
        loss_after=lambda size: loss(split(net, chosen, step=size, **ways)),
    )
    norms = group_norms(net, list(chosen))
    shorter = min(1.0, *(SMALL_STEP * norms[name] / size for name, size in choice.size.items()))
    small = {name: size * shorter for name, size in choice.size.items()}
    predicted, every = _held_out_sums(setup, net, index, held_out, chosen, choice.size)
    record = StepRecord(
        policy=choice.policy,
        size=choice.size,
        loss_before=before,
        predicted_change=predicted[0],
        predicted_stderr=predicted[1],
        realised_change=loss(split(net, chosen, step=choice.size, **ways)) - before,
        small_predicted_change=predicted[0] * shorter**2,
        small_realised_change=loss(split(net, chosen, step=small, **ways)) - before,
        function_error=error,
        function_tolerance=tolerance,
    )
    return record, every[1]


def directions(index: Mapping[str, SplitIndex], chosen: Mapping[str, Sequence[int]]) -> dict[str, Directions]:
    """How the copies of the chosen neurons move apart, as `split` takes it."""
    return {
        "directions": {name: index[name].direction for name in chosen},
        "outgoing": {name: index[name].outgoing for name in chosen},
    }


def _mean_loss(net: Network, batches: Batches, loss_fn: Loss) -> float:
    """Mean loss in eval mode, in the parameters' own precision: mixed precision would drown small changes."""
    with evaluating(net.module), torch.inference_mode():
        total = sum(float(loss_fn(net.module(x), target)) * len(x) for x, target in batches)
    return total / sum(len(x) for x, _ in batches)


def _held_out_sums(
    setup: Setup,
    net: Network,
    index: dict[str, SplitIndex],
    held_out: Batches,
    chosen: dict[str, list[int]],
    step: dict[str, float],
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
        cache_bytes=0,
    )
    split_only = {name: torch.zeros_like(index[name].value) for name in chosen}
    for name, channels in chosen.items():
        split_only[name][channels] = step[name] ** 2 / 2
    every = {name: torch.ones_like(found.value) for name, found in index.items()}
    return operator.sums(operator.vectors_of(index), [split_only, every])
