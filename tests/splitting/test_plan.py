"""Where tangents go, without data: segments, what is cut, and the rules of `curvature` and `linear`."""

from __future__ import annotations

import cases
import graph_cases
import pytest

import energysplit as es
from energysplit.graph.network import Kind
from energysplit.splitting.plan import Action, Segment, segments


def names(parts: tuple[Segment, ...], action: Action) -> list[str]:
    return [step.op.name for part in parts for step in part.steps if step.action is action]


def counting(parts: tuple[Segment, ...]) -> list[str]:
    return [step.op.name for part in parts for step in part.steps if step.counts]


def test_groups_of_a_chain_are_segments_of_their_own():
    parts = segments(cases.network("mobilenet"), "exact", "skip")
    assert [part.groups for part in parts] == [("0",), ("6",), ("12",)]
    assert names(parts, Action.START) == ["0", "6", "12"]
    assert counting(parts) == ["2", "5", "8", "11", "14"]
    assert names(parts, Action.CARRY) == ["2", "3", "5", "8", "9", "11", "14"], "batch norms are folded"
    assert not parts[-1].steps[-1].passes, "what follows the last bend is cut"


def test_groups_that_meet_share_a_segment():
    parts = segments(graph_cases.network("dense"), "exact", "outgoing")
    assert [part.groups for part in parts] == [("stem", "a", "b")]
    assert segments(graph_cases.network("dense"), "exact", "skip")[0].groups == ("stem", "a")
    assert len(segments(graph_cases.network("residual"), "exact", "skip")) == 3


def test_tangents_are_freed_after_their_last_use():
    for kind in graph_cases.KINDS:
        for linear in ("skip", "unit", "outgoing"):
            for part in segments(graph_cases.network(kind), "exact", linear):
                alive = set()
                for step in part.steps:
                    assert alive.issuperset(step.sources)
                    if step.passes:
                        alive.add(step.result)
                    alive -= set(step.frees)
                assert not alive, "what is never freed need not have been made"


def test_gates_start_no_tangent():
    parts = segments(graph_cases.network("squeeze-excite"), "exact", "skip")
    assert "excite" not in names(parts, Action.START)
    assert "stem.0.0" in names(parts, Action.START)


def test_a_linear_trunk_is_left_out_given_a_surrogate_or_read():
    net = graph_cases.network("bottleneck")
    trunk = "first.4.0"
    exact = segments(net, "exact", "skip")
    assert trunk not in {name for part in exact for name in part.groups}
    unit = segments(net, "exact", "unit")
    assert names(unit, Action.UNIT) == ["first.4.1", "second.4.1"], "after the batch norms of both producers"
    assert set(counting(exact)) < set(counting(unit))
    outgoing = segments(net, "exact", "outgoing")
    reads = names(outgoing, Action.READ)
    assert {"second.0.0", "last.0.0", "head"} < set(reads)
    assert len(reads) == sum(len(group.consumers) for group in net.groups.values())


def test_producer_curvature_stops_at_the_first_nonlinearity_and_at_filters():
    mobilenet = segments(cases.network("mobilenet"), "producer", "skip")
    assert counting(mobilenet) == ["2", "8", "14"]
    net = graph_cases.network("residual")
    paper = segments(net, "producer", "skip")
    trunk = {step.op.name for part in paper if "stem.0" in part.groups for step in part.steps}
    (add,) = (op.name for op in net.ops if op.kind is Kind.SUM and op.node.target.__name__ == "add")
    assert add in trunk, "the block's producer is followed by the sum, then by the nonlinearity behind it"
    assert len(counting(paper)) == 4
    multiplied = segments(graph_cases.network("multiplied"), "producer", "skip")
    assert all(step.op.kind is not Kind.DEPTHWISE for part in multiplied for step in part.steps)


def test_a_product_of_two_moving_factors_bends():
    parts = segments(graph_cases.network("bilinear"), "exact", "outgoing")
    products = [step for part in parts for step in part.steps if step.op.kind is Kind.PRODUCT]
    assert [step.counts for step in products] == [True, False, True]
    gated = segments(graph_cases.network("squeeze-excite"), "exact", "outgoing")
    assert not any(step.counts for part in gated for step in part.steps if step.op.kind is Kind.PRODUCT)


@pytest.mark.parametrize(
    ("curvature", "linear", "message"),
    [
        ("all", "skip", "curvature='all'"),
        ("exact", "none", "linear='none'"),
        ("producer", "outgoing", "use curvature='exact'"),
    ],
)
def test_rules_that_do_not_exist_or_do_not_go_together_are_named(curvature, linear, message):
    with pytest.raises(es.InputError, match=message):
        segments(cases.network("cnn"), curvature, linear)
