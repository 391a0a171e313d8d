"""Signed splits in float64: the function is kept, and the loss changes as both ends of the spectrum predict.

The step is 1e-4: the two copies of a `signed_pair` move by different distances, N/P and 1, so its loss change has a
term of third order, whose part in the change shrinks with the step only. Kinds whose copies come in opposite pairs
have none.
"""

from __future__ import annotations

from itertools import cycle

import branched
import cases
import oracles
import pytest
import torch
import torch.nn.functional as F

import energysplit as es
from energysplit.kinds import kinds
from energysplit.surgery import function_error

EVERY = [*cases.FAMILIES, *branched.FAMILIES]
POOLED = ("vgg",)
KINDS = sorted(kinds(2.0))
MASS = 2.0
STEP = 1e-4
_INDEX: dict[tuple[str, str], tuple[es.Network, dict[str, es.SplitIndex]]] = {}


def batch_of(family: str) -> oracles.Batch:
    """Few images where max pooling is on the way, so that no window's largest element changes within a step."""
    return cases.images(6 if family in POOLED else 24)


def indexed(family: str, linear: str = "skip") -> tuple[es.Network, dict[str, es.SplitIndex]]:
    """A network with both ends of its spectra, found once for all tests."""
    if (family, linear) not in _INDEX:
        net, batches = branched.network(family), [batch_of(family)]
        index = es.splitting_index(net, batches, F.cross_entropy, method="exact", linear=linear, signed=True)
        _INDEX[family, linear] = net, index
    return _INDEX[family, linear]


def every(net: es.Network, index: dict[str, es.SplitIndex], *names: str) -> dict[str, dict[int, str]]:
    """All neurons of all groups, with these kinds in turn."""
    ways = cycle(names)
    return {name: {channel: next(ways) for channel in range(net.widths[name])} for name in index}


@pytest.mark.parametrize("linear", ["skip", "outgoing"])
@pytest.mark.parametrize("family", EVERY)
def test_loss_changes_as_both_ends_predict(family, linear):
    """All neurons of all groups at once, in each way and in all ways mixed."""
    net, index = indexed(family, linear)
    batch = batch_of(family)
    for names in [[kind] for kind in KINDS] + [KINDS]:
        chosen = every(net, index, *names)
        if family in POOLED:
            assert oracles.windows_that_switch(net, batch[0], index, chosen, STEP, MASS) == 0
        predicted = oracles.predicted_change(index, chosen, STEP, MASS)
        realised = oracles.realised_change(net, [batch], index, chosen, STEP, MASS)
        assert predicted < 0
        assert realised == pytest.approx(predicted, rel=1e-3), names


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["cnn", "mlp", "residual", "gated", "grouped", "halves"])
def test_each_neuron_by_itself(family, kind):
    net, index = indexed(family)
    batch = batch_of(family)
    for name in index:
        for channel in range(net.widths[name]):
            chosen = {name: {channel: kind}}
            predicted = oracles.predicted_change(index, chosen, STEP, MASS)
            realised = oracles.realised_change(net, [batch], index, chosen, STEP, MASS)
            assert realised == pytest.approx(predicted, rel=0.01, abs=2e-15), (name, channel)


@pytest.mark.parametrize("mass", [1.25, 3.0])
def test_other_masses_change_the_loss_as_predicted(mass):
    net, index = indexed("gated", "outgoing")
    for kind in KINDS:
        chosen = every(net, index, kind)
        predicted = oracles.predicted_change(index, chosen, STEP, mass)
        realised = oracles.realised_change(net, [batch_of("gated")], index, chosen, STEP, mass)
        assert realised == pytest.approx(predicted, rel=1e-3)


def test_only_the_signed_pair_has_a_third_order():
    """Twice the step: an error of third order doubles relative to the second order, one of fourth is fourfold."""
    net, index = indexed("concat", "outgoing")
    ratios = {}
    for kind in KINDS:
        chosen = every(net, index, kind)
        errors = []
        for step in (4e-3, 8e-3):
            predicted = oracles.predicted_change(index, chosen, step, MASS)
            errors.append(oracles.realised_change(net, [batch_of("concat")], index, chosen, step, MASS) / predicted - 1)
        ratios[kind] = errors[1] / errors[0]
    assert ratios.pop("signed_pair") == pytest.approx(2, rel=0.05)
    assert list(ratios.values()) == pytest.approx([4] * 4, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", EVERY)
def test_function_is_kept_at_step_0(family, kind, record_property):
    net, index = indexed(family)
    x = batch_of(family)[0]
    chosen = every(net, index, kind)
    assert function_error(net, es.split(net, chosen, index, mass=MASS), x) < 1e-9
    single = es.trace(branched.network(family).module.float(), x.float())
    error = function_error(single, es.split(single, chosen, mass=MASS), x.float())
    record_property("float32_function_error", error)
    assert error < 1e-5


def test_copies_stand_next_to_their_original():
    """Rows and columns of a quadruple and a signed pair, written down; mass 3: P = 2, N = 1."""
    net, index = indexed("cnn", "outgoing")
    found = index["0"]
    after = es.split(net, {"0": {2: "signed_pair", 0: "quadruple"}}, {"0": found}, 0.1, mass=3.0)
    low, high = 0.1 * found.direction["0"], 0.1 * found.upper.direction["0"]
    old = net.weight("0")
    rows = [old[0] + low[0], old[0] - low[0], old[0] + high[0], old[0] - high[0], old[1]]
    rows += [old[2] + 0.5 * high[2], old[2] + high[2], old[3]]
    torch.testing.assert_close(after.weight("0"), torch.stack(rows))
    u, w, old = 0.1 * found.outgoing["2"], 0.1 * found.upper.outgoing["2"], net.weight("2")
    columns = [old[:, 0] + u[:, 0], old[:, 0] - u[:, 0], -(old[:, 0] + w[:, 0]) / 2, -(old[:, 0] - w[:, 0]) / 2]
    columns += [old[:, 1], 2 * (old[:, 2] + 0.5 * w[:, 2]), -(old[:, 2] + w[:, 2]), old[:, 3]]
    torch.testing.assert_close(after.weight("2"), torch.stack(columns, 1))
    assert after.widths["0"] == 8


@pytest.mark.parametrize("family", EVERY)
def test_the_analysis_after_surgery_is_that_of_a_new_trace(family):
    net, index = indexed(family)
    after = es.split(net, every(net, index, *KINDS), index, 0.01, mass=MASS)
    again = es.trace(after.module, after.example_input)
    assert after.groups == again.groups
    assert set(after.slots) == set(again.slots)


def test_a_pair_by_an_index_is_one_by_its_directions():
    net, index = indexed("gated", "outgoing")
    chosen = {name: [0, 1] for name in index}
    rows = {name: found.direction for name, found in index.items()}
    columns = {name: found.outgoing for name, found in index.items()}
    one, other = es.split(net, chosen, index, 0.1), es.split(net, chosen, rows, 0.1, columns)
    third = es.split(net, {name: {0: "pair", 1: "pair"} for name in index}, index, 0.1, mass=2.0)
    for a, b, c in zip(*(each.module.parameters() for each in (one, other, third)), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_a_split_with_kinds_of_one_end_needs_no_directions_of_the_other():
    net, index = indexed("cnn")
    rows = {"0": index["0"].direction}
    by_rows = es.split(net, {"0": {0: "low_triple"}}, rows, 0.1, mass=MASS)
    by_index = es.split(net, {"0": {0: "low_triple"}}, index, 0.1, mass=MASS)
    for a, b in zip(by_rows.module.parameters(), by_index.module.parameters(), strict=True):
        assert torch.equal(a, b)
    # At step 0 nothing moves, so that no directions are needed at all.
    assert es.split(net, {"0": {0: "quadruple"}}, mass=MASS).widths["0"] == net.widths["0"] + 3


@pytest.mark.parametrize(
    ("chosen", "options", "message"),
    [
        ({"0": {1: "quadruple"}}, {"mass": 1.0}, "need a mass above 1; mass = 1 given"),
        ({"0": {1: "pairs"}}, {}, "did you mean 'pair'"),
        ({"0": {1: "pair"}}, {"mass": 0.0}, "mass = 0.0 given, a finite number of at least 1"),
        ({"0": {9: "pair"}}, {}, r"channels \[9\] given, 0 to 3 expected"),
        ({"0": {1: "signed_pair"}}, {"directions": "lower"}, r"no direction for it is given; .*signed=True"),
        ({"0": {1: "signed_pair"}}, {"directions": "rows"}, r"no direction for it is given; .*signed=True"),
        ({"0": {1: "signed_pair"}}, {"directions": None}, r"no direction for it is given; .*signed=True"),
        ({"0": {1: "pair"}}, {"outgoing": True}, "outgoing directions are given beside a SplitIndex"),
        ({"0": {1: "pair"}}, {"directions": "other"}, r"direction for '0' has shape \(5, 4, 1, 1\)"),
    ],
)
def test_wrong_input_is_named(chosen, options, message):
    net, index = indexed("cnn", "outgoing")
    given = {
        "index": index,
        "lower": es.splitting_index(net, [batch_of("cnn")], F.cross_entropy, sweeps=1),
        "rows": {name: found.direction for name, found in index.items()},
        "other": {"0": {"0": net.weight("2")}},
        None: None,
    }[options.get("directions", "index")]
    outgoing = {"0": index["0"].outgoing} if "outgoing" in options else None
    with pytest.raises(es.InputError, match=message):
        es.split(net, chosen, given, 0.1, outgoing, mass=options.get("mass", MASS))
