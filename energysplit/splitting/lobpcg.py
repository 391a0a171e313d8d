"""Locally optimal descent for all neurons at once (Knyazev 2001, LOBPCG with block size 1 for each neuron).

Each iteration minimises the Rayleigh quotient exactly over span{x, residual, previous direction}: one sweep, since
S of the new iterate follows from what is already known. With a growing sample most iterations run on the first part
of the batches and only the last on all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from energysplit.splitting.layout import Vectors
from energysplit.splitting.operator import SplittingOperator, dots, normalise
from energysplit.splitting.solution import Eigenpairs, eigenpairs

SWEEPS = 6
"""Measured (9-layer MobileNet, 2,048 CIFAR-10 images): 6 sweeps reach 99.9 % of the exact sum of indices."""
FIRST_PART = 4
"""A growing sample starts with a quarter of the batches."""
LAST_SWEEPS = 3
"""Sweeps a growing sample makes over all batches at the end."""


@dataclass(frozen=True)
class _Phase:
    """Some sweeps on the first `batches` batches (all if None)."""

    batches: int | None
    sweeps: int


@dataclass
class _State:
    """Iterate and previous direction of each neuron of one group, with S of both."""

    x: Tensor
    sx: Tensor
    p: Tensor
    sp: Tensor


def solve(
    operator: SplittingOperator, *, seed: int = 0, sweeps: int | None = None, growing: bool = False
) -> Eigenpairs:
    """Smallest eigenpairs after `sweeps` sweeps, the last ones over the whole sample.

    Error: the residual norm bounds the distance of each value to an eigenvalue; the quotient never increases from
    one iteration to the next on the same images.
    """
    sweeps = SWEEPS if sweeps is None else sweeps
    x = operator.random_vectors(seed)
    applied: Vectors = {}
    swept = 0
    for phase in _phases(len(operator.batches), sweeps, growing):
        images = sum(len(batch) for batch, _ in operator.batches[: phase.batches])
        applied = operator.apply(x, phase.batches)
        states = {name: _State(v, applied[name], torch.zeros_like(v), torch.zeros_like(v)) for name, v in x.items()}
        for _ in range(phase.sweeps - 1):
            residual = {name: _residual(state) for name, state in states.items()}
            applied = operator.apply(residual, phase.batches)
            states = {name: _minimise(states[name], residual[name], applied[name]) for name in states}
        swept += phase.sweeps * images
        x = {name: state.x for name, state in states.items()}
        applied = {name: state.sx for name, state in states.items()}
    return eigenpairs(x, applied, swept)


def _phases(batches: int, sweeps: int, growing: bool) -> list[_Phase]:
    """The sweeps on a growing sample; one phase over everything where growing would not pay."""
    first = batches // FIRST_PART
    if not growing or first == 0 or sweeps <= LAST_SWEEPS + 1:
        return [_Phase(None, sweeps)]
    return [_Phase(first, sweeps - LAST_SWEEPS), _Phase(None, LAST_SWEEPS)]


def _residual(state: _State) -> Tensor:
    """The unit residual S x - (x^T S x) x of each neuron."""
    return normalise(state.sx - dots(state.x, state.sx)[:, None] * state.x)


def _minimise(state: _State, r: Tensor, sr: Tensor) -> _State:
    """Rayleigh-Ritz over span{x, r, p} of each neuron, in float64.

    A direction that is (nearly) in the span of the others is dropped by its Gram eigenvalue, so a converged neuron
    stays where it is.
    """
    basis = torch.stack([v.double() for v in (state.x, r, state.p)], dim=2)
    image = torch.stack([v.double() for v in (state.sx, sr, state.sp)], dim=2)
    gram, spread = torch.linalg.eigh(basis.mT @ basis)
    kept = gram > 1e-8 * gram[:, -1:]
    whiten = spread * torch.where(kept, gram.clamp_min(1e-300).rsqrt(), 0.0)[:, None, :]
    projected = whiten.mT @ (basis.mT @ image) @ whiten
    projected = (projected + projected.mT) / 2
    # Dropped directions get the largest value there is, so that the smallest never lies in them.
    ceiling = projected.abs().amax((1, 2), keepdim=True).clamp_min(1.0) * 4
    projected = projected + torch.diag_embed((~kept).double()) * ceiling
    coefficients = (whiten @ torch.linalg.eigh(projected)[1][:, :, :1])[:, :, 0]
    x = torch.einsum("ndk,nk->nd", basis, coefficients)
    sx = torch.einsum("ndk,nk->nd", image, coefficients)
    moved = coefficients.clone()
    moved[:, 0] = 0  # the part of the step outside the old iterate is the next direction
    p = torch.einsum("ndk,nk->nd", basis, moved)
    sp = torch.einsum("ndk,nk->nd", image, moved)
    x_scale = 1 / x.norm(dim=1, keepdim=True).clamp_min(1e-300)
    p_scale = 1 / p.norm(dim=1, keepdim=True).clamp_min(1e-300)
    p_scale = torch.where(p.norm(dim=1, keepdim=True) > 1e-12, p_scale, 0.0)

    return _State(*((v * scale).to(state.x) for v, scale in ((x, x_scale), (sx, x_scale), (p, p_scale), (sp, p_scale))))
