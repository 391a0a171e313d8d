"""Takes the profiler's own time out of the nodes' times.

ONNX Runtime's profiler reads the clock at the end of a node only after it has written down the node's shapes and
memory, so each node's time holds that work too: 2 to 3 us on a 2.6 GHz core, more than many nodes take, and a little
more where its memory pushes the network's out of the caches. Both show in the sum of the nodes against the same
network run without profiler:

    sum of nodes / network = stretch + per_node * (number of nodes / network)

a line over networks of different size, fitted here with stretch >= 1 and per_node >= 0. `per_node` changes from moment
to moment, so in each round it is what makes the nodes, less that much each, add up to the network as it ran in that
round. The profile says how a network's time is divided; the plain run says how much there is to divide.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from energysplit.errors import InputError
from energysplit.measure.samples import ModelSamples, Samples

LEAST_SHARE = 0.05
"""A node keeps at least this share of its profiled time, however short it is: nothing that ran took no time."""
LEAST_CONTRAST = 1.5
"""Below this ratio of the largest to the smallest number of nodes per time, slope and intercept can't be told apart."""


@dataclass(frozen=True)
class ProfilerCost:
    """What profiling adds: `per_node`, in times of the reference network, and `stretch`, a factor of at least 1.

    error: root mean square relative error of the sums of nodes that the fit predicts.
    """

    per_node: float
    stretch: float
    error: float

    @classmethod
    def of(cls, models: Iterable[ModelSamples]) -> ProfilerCost:
        """The cost fitted on networks, the more different in size the better; with one alone, all is `per_node`.

        Raises:
            InputError: no network with nodes.
        """
        models = [model for model in models if model.nodes]
        if not models:
            raise InputError("no network with nodes; the profiler's cost can't be found")
        network = np.array([model.network.ratio.median for model in models])
        nodes = np.array([len(model.nodes) for model in models])
        profiled = np.array([float(np.median(_ratios(model).sum(axis=0))) for model in models])
        density, excess = nodes / network, profiled / network - 1
        # Residuals relative to the sum, so that networks of very short nodes do not outweigh all others.
        weight = network / profiled
        if density.max() < LEAST_CONTRAST * density.min():
            per_node, stretch = max(0.0, float(np.median(excess / density))), 1.0
        else:
            design = np.stack([np.ones_like(density), density], axis=1)
            (more, per_node), _ = nnls(design * weight[:, None], excess * weight)
            stretch, per_node = 1.0 + float(more), float(per_node)
        error = np.sqrt(np.mean(((stretch + per_node * density - 1 - excess) * weight) ** 2))
        return cls(per_node, stretch, float(error))

    def shares(self, model: ModelSamples) -> tuple[Samples, ...]:
        """Each node's samples without the profiler's time; in each round they add up to the network's.

        Raises:
            InputError: the network has no nodes.
        """
        if not model.nodes:
            raise InputError(f"network {model.name!r} has no nodes to share its time")
        references = np.array(model.network.references_s)
        network = np.array(model.network.ratios)
        own = np.stack(
            [self._own(nodes, total) for nodes, total in zip(_ratios(model).T, network, strict=True)], axis=1
        )
        return tuple(Samples(tuple(row.tolist()), model.network.references_s) for row in own * references)

    def _own(self, nodes: np.ndarray, total: float) -> np.ndarray:
        """One round's nodes without the profiler's time: they add up to `total`."""
        floor = LEAST_SHARE * nodes
        # The sum falls as the time taken off each node grows, from all of them to the floors: halve to where it fits.
        low, high = 0.0, float(nodes.max())
        for _ in range(60):
            middle = (low + high) / 2
            fits = np.maximum(nodes - middle, floor).sum() > self.stretch * total
            low, high = (middle, high) if fits else (low, middle)
        own = np.maximum(nodes - low, floor)
        return own * (total / own.sum())


def _ratios(model: ModelSamples) -> np.ndarray:
    """Profiled times in times of the reference, shape (nodes, rounds)."""
    return np.array([node.samples.ratios for node in model.nodes])
