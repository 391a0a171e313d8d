"""How well the splitting index of stock networks predicts the loss change of real splits."""

from __future__ import annotations

from dataclasses import dataclass

import oracles
import torch
import torch.nn.functional as F
from stock_networks import CLASSES, Real, calibrated, smoothed

import energysplit as es


@dataclass(frozen=True)
class Check:
    """A loss change predicted by the splitting index, and that of the real split."""

    chosen: dict[str, list[int]]
    step: float
    predicted: float
    realised: float

    @property
    def error(self) -> float:
        """Relative to the prediction."""
        return abs(self.realised / self.predicted - 1)


def smooth_checks(real: Real) -> list[Check]:
    """Three groups, and one neuron of every group, with smooth activations and step 1e-3.

    Where a max-pooling window would take another element the step is smaller: the second order holds between switches.
    """
    with smoothed(real.slim()) as module:
        calibrated(module, real.images(4 if real.training else 32, seed=3, size=real.training))
        net = es.trace(module, real.images(1 if real.training else 2, size=real.training))
        pooled = any(op.pool is not None for op in net.ops)
        x = real.images(1 if pooled else 4, seed=4)
        batch = (x, torch.arange(len(x)))
        index = es.splitting_index(net, [batch], F.cross_entropy, sweeps=1)
        chosen = [{name: [0, net.widths[name] - 1]} for name in list(index)[:: max(1, len(index) // 3)][:3]]
        chosen.append({name: [net.widths[name] // 2] for name in index})
        checks = []
        for each in chosen:
            step = oracles.step_without_switch(net, x, index, each) if pooled else 1e-3
            checks.append(checked(net, batch, index, each, step))
        return checks


def kinked_checks(real: Real) -> list[Check]:
    """One neuron of every group, with the activations as they are, at steps of 0.01 and 0.03.

    Kinks are smoothed in the prediction, with beta = 10; directions and values are of the same 32 images.
    """
    module = calibrated(real.slim(), real.images(32, seed=3, size=real.training))
    net = es.trace(module, real.images(1 if real.training else 2, size=real.training))
    batch = (real.images(32, seed=4), torch.arange(32) % CLASSES)
    index = es.splitting_index(net, [batch], F.cross_entropy, sweeps=3, kink_beta=10.0)
    chosen = {name: [net.widths[name] // 2] for name in index}
    return [checked(net, batch, index, chosen, step) for step in (0.01, 0.03)]


def checked(
    net: es.Network,
    batch: oracles.Batch,
    index: dict[str, es.SplitIndex],
    chosen: dict[str, list[int]],
    step: float,
) -> Check:
    """The check of one split."""
    predicted = oracles.predicted_change(index, chosen, step)
    return Check(chosen, step, predicted, oracles.realised_change(net, [batch], index, chosen, step))
