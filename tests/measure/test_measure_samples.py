"""Reading results: what comes out of good files, and one message for each way a file can be wrong."""

from __future__ import annotations

import itertools
import math
import re
from fractions import Fraction

import numpy as np
import pytest

from energysplit.errors import InputError
from energysplit.measure.plan import pack
from energysplit.measure.samples import read_results
from energysplit.measure.summary import Summary, median_ranks

TIMES = {"a": [0.002, 0.0021, 0.0019, 0.004], "b": [0.001, 0.0011, 0.0012, 0.0013]}


def test_samples_stand_beside_their_references(write_results):
    references = {"a": [0.001, 0.0011, 0.001, 0.002], "b": 0.001}
    nodes = {"a": [("u0.1_nchwc", [0.001] * 4), ("u1.0", [0.0005, 0.0006, 0.0007, 0.0008])]}
    energy = {"a": [0.1, 0.3, 0.2]}
    path = write_results(TIMES, references, nodes, energy=energy, attachment=pack("said"))
    results = read_results(path)
    assert results.attachment == "said"
    a, b = results.models["a"], results.models["b"]
    assert a.network.ratios == pytest.approx([2.0, 0.0021 / 0.0011, 1.9, 2.0])
    assert [(node.node, node.op_type, node.order) for node in a.nodes] == [
        ("u0.1_nchwc", "Conv", 0),
        ("u1.0", "Conv", 1),
    ]
    assert a.nodes[1].samples.values_s == (0.0005, 0.0006, 0.0007, 0.0008)
    assert a.energy.median == 0.2
    assert (a.first_s, a.session_s) == (0.002, 0.01)
    assert b.nodes == ()
    assert b.energy is None
    # The reference's times of both networks: 0.001 (six times), 0.0011, 0.002.
    assert results.reference.median == 0.001


def test_no_network_that_ran_is_said(write_results, tmp_path):
    path = write_results({})
    path.write_text(path.read_text() + "a,error,,it broke,,,,,,\n")
    results = read_results(path)
    assert results.failed == {"a": "it broke"}
    with pytest.raises(InputError, match="no network ran: it broke"):
        _ = results.reference


def edited(path, old, new, count=1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a,network,1,,,,0.0021,s", "a,network,1,,,,nan,s", "line 13: value 'nan' given, a finite number above 0"),
        ("a,network,1,,,,0.0021,s", "a,network,1,,,,-1,s", "line 13: value '-1' given"),
        ("a,network,1,,,,0.0021,s", "a,network,1,,,,0,s", "line 13: value '0' given"),
        ("a,network,1,,,,0.0021,s", "a,network,1,,,,,s", "line 13: value '' given"),
        (
            "a,network,1,,,,0.0021,s",
            "a,network,1,,,,0.0021,ms",
            "line 13: unit 'ms' given, 's' expected for kind 'network'",
        ),
        ("a,network,1,", "a,netwrok,1,", "line 13: kind 'netwrok': did you mean 'network'?"),
        ("a,network,1,", "a,network,0,", "line 13: round 0 of network 'a' is there twice"),
        ("a,network,1,", "a,network,x,", "line 13: round 'x' given, a whole number"),
        ("0.0021,s,0.001,20", "0.0021,s,inf,20", "line 13: reference_s 'inf' given"),
        ("0.0021,s,0.001,20", "0.0021,s,0.001,0", "line 13: runs '0' given, a whole number of at least 1"),
        ("0.0021,s,0.001,20", "0.0021,s,0.001", "line 13: 9 fields given, 10 expected"),
        ("a,session", "a,first", "network 'a' has no end"),
        ("value,unit", "value,units", "line 11: column 'unit' is missing"),
        ("runs\n", "runs,more\n", "line 11: column 'more' is unknown"),
        ("# onnxruntime=1.31.1\n", "", "no line '# onnxruntime=...'"),
        ("# format=1", "# format=2", "format '2' given, '1' expected"),
        ("b,network", "a,network", "network 'a' goes on after its end"),
    ],
)
def test_a_wrong_file_is_one_message_with_the_line(write_results, old, new, message):
    path = edited(write_results(TIMES), old, new)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_results(path)
    assert str(caught.value).startswith(str(path))


def test_a_cut_file_is_refused_wherever_it_is_cut(write_results):
    path = write_results({"a": TIMES["a"]}, nodes={"a": [("u0.0", [0.001] * 4)]})
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        if whole[:end].endswith(b"runs\n"):  # a file without networks is whole
            assert read_results(path).models == {}
            continue
        with pytest.raises(InputError, match=re.escape(str(path))):
            read_results(path)


def test_nodes_must_be_the_same_in_every_round(write_results):
    path = write_results(TIMES, nodes={"a": [("u0.0", [0.001] * 4), ("u1.0", [0.001] * 4)]})
    line = "a,node,2,u1.0,Conv,1,0.001,s,0.001,20\n"
    edited(path, line, "")
    with pytest.raises(InputError, match=r"network 'a': node 'u1.0' has 3 rounds, the network 4"):
        read_results(path)
    edited(path, "a,node,3,u1.0,Conv,1", "a,node,3,u9.0,Conv,1")
    with pytest.raises(InputError, match="network 'a': nodes are missing or there twice"):
        read_results(path)


def test_a_missing_file_is_one_message(tmp_path):
    with pytest.raises(InputError, match="can't be read"):
        read_results(tmp_path / "none.csv")


@pytest.mark.parametrize("counts", [range(1, 201), (1075, 1100, 5000)])
def test_median_ranks_are_the_exact_binomial_ones(counts):
    for count in counts:
        rank, coverage = median_ranks(count)
        # Ways in which at most `rank` of the samples lie below the median, in whole numbers: nothing underflows.
        below, total = sum(math.comb(count, i) for i in range(rank + 1)), 2**count
        assert coverage == pytest.approx(float(1 - Fraction(2 * below, total)), abs=1e-9)
        if rank:
            assert 20 * 2 * below <= total
        if rank + 1 < (count + 1) // 2:
            assert 20 * 2 * (below + math.comb(count, rank + 1)) > total
    assert median_ranks(5)[1] == pytest.approx(0.9375)
    assert median_ranks(6)[1] == pytest.approx(0.96875)


def test_the_interval_of_very_many_samples_does_not_collapse():
    """0.5 ** 1100 is 0 in floating point; the interval of 5000 samples is some 2 standard errors to each side."""
    rank, _ = median_ranks(5000)
    assert 2500 - rank == pytest.approx(1.96 * math.sqrt(5000) / 2, abs=2)


def test_the_interval_holds_the_median_as_often_as_it_says():
    random = np.random.default_rng(0)
    for count in (6, 12, 25):
        trials = 4000
        # Skewed samples with median 1: the interval needs no normality.
        summaries = [Summary.of(np.exp(random.standard_normal(count))) for _ in range(trials)]
        hit = np.mean([summary.low <= 1.0 <= summary.high for summary in summaries])
        claimed = summaries[0].coverage
        assert abs(hit - claimed) < 4 * math.sqrt(claimed * (1 - claimed) / trials)


def test_summaries_do_not_depend_on_order_and_refuse_nonsense():
    for order in itertools.permutations([1.0, 2.0, 4.0, 8.0]):
        assert Summary.of(order) == Summary.of([1.0, 2.0, 4.0, 8.0])
    assert Summary.of([2.0]) == Summary(2.0, 2.0, 2.0, 2.0, 2.0, 1, 0.0)
    for wrong in ([], [math.nan, 1.0], [math.inf]):
        with pytest.raises(InputError, match="expected at least one, and all finite"):
            Summary.of(wrong)
