"""How far the copies move apart: the step policies of a recipe.

The second-order prediction holds for small steps only, yet copies that stay close stay copies. Every policy returns
an absolute step for each group; those that search do so on held-out images, never on validation or test data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from energysplit.errors import InputError
from energysplit.graph import Network

HeldOutLoss = Callable[[Mapping[str, float]], float]
SEARCH = 2.0**-0.5
"""Ratio of neighbouring steps tried by the searching policies."""
TRIES = 16
"""Steps tried before a search gives up: the last is 2^-7.5 of the largest."""


@dataclass(frozen=True)
class StepChoice:
    """The chosen step: absolute size by group, and the policy with what it found, in a few words."""

    size: dict[str, float]
    policy: str


def group_norms(net: Network, groups: Sequence[str]) -> dict[str, float]:
    """Group -> root mean square, over its neurons, of the norm of all rows of a neuron that move.

    A neuron has rows in every producer that is no gate, and may have several in one.
    """
    norms = {}
    for name in groups:
        group = net.groups[name]
        square = sum(float(net.weight(mover).double().square().sum()) for mover in group.movers)
        norms[name] = (square / group.channels) ** 0.5
    return norms


def choose_step(
    net: Network,
    groups: Sequence[str],
    *,
    policy: str,
    size: float,
    tolerance: float = 1.1,
    loss_before: float = float("nan"),
    loss_after: HeldOutLoss | None = None,
) -> StepChoice:
    """The step of each group.

    Args:
        net: the network before the split.
        groups: groups that are split.
        policy: "fixed": `size` in weight units (the paper's 1e-2 or 1e-1). "relative": `size` times the group's norm
            (`group_norms`). "tolerance": the largest relative step, at most `size`, whose held-out loss stays within
            `tolerance` times the loss before. "monotone": the largest that does not raise the held-out loss.
        size: see policy.
        tolerance: factor of the held-out loss.
        loss_before: held-out loss of `net`; for the searching policies.
        loss_after: held-out loss after a split with the given absolute steps; for the searching policies.

    Raises:
        InputError: the policy is unknown, or it searches and has no held-out loss.
    """
    if policy == "fixed":
        return StepChoice(dict.fromkeys(groups, size), f"fixed: {size:g}")
    norms = group_norms(net, groups)

    def relative(factor: float) -> dict[str, float]:
        return {name: factor * norm for name, norm in norms.items()}

    if policy == "relative":
        return StepChoice(relative(size), f"relative: {size:g} of the weights' norm")
    if policy not in ("tolerance", "monotone"):
        raise InputError(f"step policy {policy!r} given; fixed, relative, tolerance or monotone expected")
    if loss_after is None or not torch.isfinite(torch.tensor(loss_before)):
        raise InputError(f"step policy {policy!r} searches on held-out images: loss_before and loss_after are needed")
    limit = loss_before * (tolerance if policy == "tolerance" else 1.0)
    factors = [size * SEARCH**number for number in range(TRIES)]
    for factor in factors:
        if loss_after(relative(factor)) <= limit:
            return StepChoice(relative(factor), f"{policy}: {factor:.4g} of the weights' norm")
    return StepChoice(
        relative(factor),
        f"{policy}: no step down to {factor:.4g} of the weights' norm kept the held-out loss within {limit:.6g}; "
        "this smallest one was taken",
    )
