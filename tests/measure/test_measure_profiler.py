"""The profiler's own time: found in sums of nodes made with a known cost, and taken out again."""

from __future__ import annotations

import numpy as np
import pytest

from energysplit.errors import InputError
from energysplit.measure.profiler import LEAST_SHARE, ProfilerCost
from energysplit.measure.samples import ModelSamples, NodeSamples, Samples

REFERENCE_S = 1e-3


def network(own_s, per_node_s, stretch, rounds=12, noise=0.0, seed=0):
    """A network whose nodes take `own_s`, seen through a profiler; the reference's speed changes all the while."""
    random = np.random.default_rng(seed)
    own = np.array(own_s)[:, None] * (1 + noise * random.standard_normal((len(own_s), rounds)))
    speed = 1 + 0.2 * random.random(rounds)
    references = tuple((REFERENCE_S * speed).tolist())
    # The profiler's own time differs from round to round, alike for all nodes.
    seen = (own * stretch + per_node_s * (1 + noise * random.standard_normal(rounds))) * speed
    nodes = tuple(
        NodeSamples(f"u{k}.0", "Conv", k, Samples(tuple(row.tolist()), references)) for k, row in enumerate(seen)
    )
    return ModelSamples(f"n{seed}", Samples(tuple((own.sum(axis=0) * speed).tolist()), references), nodes)


def sizes(seed, count=30, scale=10e-6):
    return np.exp(np.random.default_rng(seed).standard_normal(count)) * scale


def test_a_known_cost_is_found():
    models = [network(sizes(k, 20 + k, 1e-6 * 2**k), 2.5e-6, 1.06, noise=0.02, seed=k) for k in range(8)]
    cost = ProfilerCost.of(models)
    assert cost.per_node * REFERENCE_S == pytest.approx(2.5e-6, rel=0.05)
    assert cost.stretch == pytest.approx(1.06, abs=0.02)
    assert cost.error < 0.02


def test_shares_add_up_to_the_network_and_are_the_nodes_own_times():
    own = sizes(3)
    models = [network(sizes(k, 30, 1e-6 * 3**k), 2.5e-6, 1.05, seed=k) for k in range(6)]
    model = network(own, 2.5e-6, 1.05, noise=0.05, seed=9)
    shares = ProfilerCost.of([*models, model]).shares(model)
    total = np.sum([share.values_s for share in shares], axis=0)
    assert total == pytest.approx(np.array(model.network.values_s), rel=1e-9)
    found = np.array([share.ratio.median for share in shares]) * REFERENCE_S
    assert found == pytest.approx(own, rel=0.1)


def test_networks_alike_give_all_to_the_nodes():
    models = [network([10e-6] * 20, 2.5e-6, 1.0, seed=k) for k in range(3)]
    cost = ProfilerCost.of(models)
    assert (cost.stretch, cost.per_node * REFERENCE_S) == (1.0, pytest.approx(2.5e-6))
    alone = ProfilerCost.of(models[:1])
    assert (alone.stretch, alone.per_node * REFERENCE_S) == (1.0, pytest.approx(2.5e-6))


def test_no_node_gets_nothing_and_no_cost_is_negative():
    # Two nodes that are far shorter than what the profiler adds.
    model = network([50e-6, 20e-6, 1e-8, 1e-8], 3e-6, 1.0)
    shares = ProfilerCost(3e-3, 1.0, 0.0).shares(model)
    assert min(min(share.values_s) for share in shares) > LEAST_SHARE * 1e-6
    # A profile that is shorter than the network (a network that was disturbed) adds nothing.
    cost = ProfilerCost.of([network(sizes(k), -0.5e-6, 1.0, seed=k) for k in range(4)])
    assert (cost.per_node, cost.stretch) == (0.0, 1.0)


def test_networks_without_nodes_are_refused():
    empty = ModelSamples("a", Samples((1.0,), (1.0,)))
    with pytest.raises(InputError, match="no network with nodes"):
        ProfilerCost.of([empty])
    with pytest.raises(InputError, match="'a' has no nodes"):
        ProfilerCost(0.0, 1.0, 0.0).shares(empty)
