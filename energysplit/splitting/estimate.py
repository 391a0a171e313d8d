"""Splitting indices from data: directions on one sample, values on another.

An index found and evaluated on the same images is optimistic: the direction fits their noise. So values, with their
standard error, come from held-out images wherever they are given. Where splits may be signed, the same is done for
the other end of the spectrum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from energysplit.errors import InputError, nearest
from energysplit.graph import Network
from energysplit.kinds import FRESH
from energysplit.splitting import by_chance, exact, lobpcg, rmsprop
from energysplit.splitting.batches import cut, fewest, in_memory, largest_of
from energysplit.splitting.capture import Loss
from energysplit.splitting.fresh import fresh_index
from energysplit.splitting.operator import Batches, SplittingOperator
from energysplit.splitting.plan import segments
from energysplit.splitting.share import Share
from energysplit.splitting.solution import Eigenpairs
from energysplit.types import SplitIndex, check_traced

METHODS = ("lobpcg", "rmsprop", "exact", "random", FRESH)


def splitting_index(
    net: Network,
    batches: Iterable[Any],
    loss_fn: Loss,
    *,
    method: str = "lobpcg",
    curvature: str = "exact",
    linear: str = "skip",
    held_out: Iterable[Any] | None = None,
    signed: bool = False,
    sweeps: int | None = None,
    seed: int = 0,
    growing: bool = False,
    kink_beta: float = 3.0,
    statistics: str = "running",
    precision: str = "no",
    share: Share | None = None,
    halved: Callable[[int, str], None] | None = None,
) -> dict[str, SplitIndex]:
    """Splitting indices and directions of all neurons of all splittable groups that take part.

    Args:
        net: the network; evaluated in eval mode and left as it was.
        batches: (input, target) pairs the directions are found on.
        loss_fn: (output, target) -> mean loss over the batch.
        method: "lobpcg", "rmsprop" (the paper's; batches are cut into its 64 images) or "exact"; "random" takes unit
            directions by chance, to compare with, and sweeps nothing: its `residual` is NaN. "fresh" asks what a new
            neuron beside each old one would bring, to first order (docs/fresh-neurons.md); no neuron is split then,
            and `curvature`, `linear` and `kink_beta` have no part in it.
        curvature: "exact" follows the channel through all its nonlinearities, "producer" is the paper's.
        linear: "skip" leaves out groups without nonlinearity, "unit" puts sigma'' = 1 there, "outgoing" lets the
            offspring of all groups differ in their outgoing weights too (docs/outgoing.md).
        held_out: (input, target) pairs the values are taken on; without them values are those of `batches`,
            optimistic, with a standard error that does not know it.
        signed: also find the largest eigenvalues with their directions, as `SplitIndex.upper`, for splits whose copies
            may have negative shares (docs/signed.md); a sweep then applies S twice to each captured batch.
        sweeps: passes over the sample; None: the solver's default. all but "lobpcg" and "rmsprop" make as many
            as they need.
        seed: of the random start.
        growing: lobpcg makes its first sweeps on a quarter of the batches.
        kink_beta: sharpness of the smoothed kinks of piecewise-linear activations.
        statistics: what batch norms do when neurons move: keep their "running" statistics, as in inference, or follow
            each "batch", as in training (docs/how-it-works.md); the loss change is that of the network in that mode.
        precision: "bf16" runs the passes over a batch in bfloat16, with sums in float32: less memory, and less time on
            hardware that is made for it; errors of some percent in S v, see docs/speed.md.
        share: this process's part of each batch, where several processes were given the same batches.
        halved: called, each time memory runs out and all begins anew with batches of half the size, with that size
            and with what was said; None: a `SmallerBatches` warning. "running" indices don't depend on it; "batch"
            ones are of a network that trains with such batches.

    Returns:
        Group -> `SplitIndex`. A step e along a direction changes the loss by e^2/2 times the value, to second order
        (S2D, arXiv 1910.02366; Wang et al. 2019, eq. 4, with the followers' curvature added); of kind "fresh", see
        `SplitIndex`. A value that overflowed
        is NaN, and leaves the other neurons' as they are.

    Raises:
        InputError: an option is unknown or does not fit the network, there are no images, or a loss is not finite.
        OutOfMemory: memory ran out with the smallest batches, too.
    """
    check_traced(net)
    if torch.is_inference_mode_enabled():
        raise InputError("torch.inference_mode() is on, and splitting indices need gradients; leave it for them")
    if method not in METHODS:
        raise InputError(f"index method {method!r} given: {nearest(method, METHODS)}")
    if method == FRESH and (signed or linear == "outgoing"):
        given = "signed=True" if signed else "linear='outgoing'"
        raise InputError(f"{given} given with method='fresh', which splits no neuron; leave it out, or use 'lobpcg'")
    if sweeps is not None and (not isinstance(sweeps, int) or sweeps < 1):
        raise InputError(f"sweeps={sweeps!r} given; a whole number of at least 1 expected")
    if not (math.isfinite(kink_beta) and kink_beta > 0):
        raise InputError(f"kink_beta={kink_beta} given; a finite number above 0 expected")
    sample, values_on = _listed(batches), None if held_out is None else _listed(held_out)
    if method == "rmsprop":
        sample = _minibatches(sample, rmsprop.BATCH)
    operator_on = partial(
        SplittingOperator,
        net,
        loss_fn=loss_fn,
        curvature=curvature,
        linear=linear,
        kink_beta=kink_beta,
        statistics=statistics,
        precision=precision,
        share=share,
    )

    def solve(operator: SplittingOperator) -> Eigenpairs:
        if method == "exact":
            return exact.solve(operator, signed=signed)
        if method == "rmsprop":
            return rmsprop.solve(operator, seed=seed, sweeps=sweeps, signed=signed)
        if method == "random":
            return by_chance.solve(operator, seed=seed, signed=signed)
        return lobpcg.solve(operator, seed=seed, sweeps=sweeps, growing=growing, signed=signed)

    share = share or Share()
    size = largest_of([*sample, *(values_on or ())])
    if method == "rmsprop":
        size = min(size, rmsprop.BATCH)  # or the first halving would leave its minibatches as they are
    whole, least = size, fewest(statistics, share)

    def estimate(largest: int) -> list[dict[str, SplitIndex]]:
        def fitting(batches: Batches) -> Batches:
            return batches if largest == whole else cut(batches, largest, least)

        if method == FRESH:
            segments(net, curvature, linear, statistics)  # refuses what no method takes
            made = fresh_index(
                net,
                fitting(sample),
                None if values_on is None else fitting(values_on),
                loss_fn,
                seed=seed,
                statistics=statistics,
                precision=precision,
                share=share,
            )
            return [made]
        operator = operator_on(fitting(sample))
        found, sample_images = solve(operator), operator.images
        if values_on is not None:
            operator = operator_on(fitting(values_on), cache_bytes=0)
        return _indices(operator, found, sample_images, method, values_on is not None)

    made = in_memory(estimate, size, statistics=statistics, share=share, halved=halved)
    if signed:
        return {name: replace(lower, upper=made[1][name]) for name, lower in made[0].items()}
    return made[0]


def _indices(
    operator: SplittingOperator, found: Eigenpairs, sample_images: int, method: str, held_out: bool
) -> list[dict[str, SplitIndex]]:
    """The indices of each end of the spectrum, with the values that the operator gives the solver's vectors."""
    swept = found.images_swept > 0
    made: list[dict[str, SplitIndex]] = []
    for end, evaluated in zip(found.ends, operator.evaluate_all([end.vectors for end in found.ends]), strict=True):
        directions = operator.directions(end.vectors)
        made.append(
            {
                name: SplitIndex(
                    value=_known(end.values[name].cpu() if not held_out and swept else evaluated[name][0], end, name),
                    direction=directions[name][0],
                    outgoing=directions[name][1],
                    stderr=evaluated[name][1] if operator.images > 1 else None,
                    residual=end.residual[name].cpu(),
                    images=operator.images,
                    solver=method,
                    held_out=held_out,
                    same_images=end.values[name].cpu() if swept else None,
                    sweeps=end.images_swept / sample_images,
                )
                for name in end.vectors
            }
        )
    return made


def _known(value: Tensor, end: Eigenpairs, name: str) -> Tensor:
    """The values, NaN where they are not finite or the solver's own were not: then no direction was found."""
    known = torch.isfinite(value)
    if end.images_swept > 0:
        known &= torch.isfinite(end.values[name].cpu())
    return torch.where(known, value, torch.nan)


def _listed(batches: Iterable[Any]) -> Batches:
    """The batches as a list, each checked to be a pair of tensors; a loader is read once."""
    listed = list(batches)
    for batch in listed:
        if not isinstance(batch, tuple | list) or len(batch) != 2 or not all(isinstance(x, Tensor) for x in batch):
            raise InputError(f"batches: (input, target) pairs of tensors expected, {type(batch).__name__} given")
    return [(x, target) for x, target in listed]


def _minibatches(batches: Batches, size: int) -> list[tuple[Tensor, Tensor]]:
    """The batches in pieces of `size` images; the last of each may have fewer."""
    return [pair for x, target in batches for pair in zip(torch.split(x, size), torch.split(target, size), strict=True)]
