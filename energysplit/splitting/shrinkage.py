"""Noisy splitting indices, each drawn towards what its group's neurons have in common.

A held-out value is unbiased, but from a few thousand images its standard error may be as large as itself. Choosing
neurons by such values chooses noise: of a group whose neurons are all worth splitting, many seem not to be. Neurons of
a group do the same work and cost the same, so the others tell something about each. This is the normal model of
meta-analysis (DerSimonian and Laird 1986) with the posterior means of Efron and Morris (1975): value ~ N(true,
stderr^2), true ~ N(mean, spread^2), mean and spread of each group estimated from its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from energysplit.types import SplitIndex

NEGLIGIBLE = 0.01
"""Standard errors below this part of a group's largest belong to neurons unlike the others."""
TIE = 1e-6
"""Least trust in a value: where a group's spread is lost in noise, its neurons still keep their order."""


def shrunk(index: Mapping[str, SplitIndex]) -> dict[str, SplitIndex]:
    """The indices with posterior means in place of values, and posterior standard deviations in place of errors.

    Indices without standard errors stay as they are; so do their other ends, where splits may be signed. Order between
    groups and neurons may change: that is what it is for.

    Error: the model takes the errors of a group's neurons as independent. Neurons share images, so they are not quite,
    and the mean of a group is known less well than is assumed here.

    Example:
        >>> values, errors = torch.tensor([-3.0, -2.0, 1.0]), torch.tensor([1.0, 1.0, 2.0])
        >>> [round(v, 2) for v in posterior(values.double(), errors.double())[0].tolist()]
        [-2.44, -1.96, -1.38]
    """
    found = {}
    for name, each in index.items():
        upper = None if each.upper is None else shrunk({name: each.upper})[name]
        if each.stderr is None:
            found[name] = replace(each, upper=upper)
        else:
            value, stderr = posterior(each.value, each.stderr)
            found[name] = replace(each, value=value, stderr=stderr, upper=upper)
    return found


def posterior(
    value: Float[Tensor, " n"], stderr: Float[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Posterior mean and standard deviation of each of a group's true values.

    A value that is not finite, or whose standard error is not, tells nothing about the others and stays as it is; so
    do two values or fewer, whose spread can't be told from noise, and values that are exact beside the others: those of
    neurons that are all but dead, whose weight would leave none to the living.
    """
    known = torch.isfinite(value) & torch.isfinite(stderr) & (stderr > 0)
    if known.any():
        known &= stderr > NEGLIGIBLE * stderr[known].max()
    if int(known.sum()) < 3:
        return value, stderr
    v, variance = value[known].double(), stderr[known].double().square()
    weight = 1 / variance
    mean = (weight * v).sum() / weight.sum()
    excess = (weight * (v - mean).square()).sum() - (len(v) - 1)
    spread = (excess / (weight.sum() - weight.square().sum() / weight.sum())).clamp_min(0)
    weight = 1 / (variance + spread)
    mean = (weight * v).sum() / weight.sum()
    trust = (spread / (spread + variance)).clamp_min(TIE)  # in the value itself
    shrunken, deviation = value.clone(), stderr.clone()
    shrunken[known] = (mean + trust * (v - mean)).to(value)
    deviation[known] = (trust * variance + (1 - trust).square() / weight.sum()).sqrt().to(stderr)
    return shrunken, deviation
