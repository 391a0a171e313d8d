"""Claims answered from made-up runs: held, not held, not decided, and at which costs they are judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from compared_runs import made_up

from energysplit.experiment.claims import answer, claims_section
from energysplit.experiment.schema import ClaimTable, Where
from energysplit.growth.compared import read_run
from energysplit.output.comparison import Comparison
from energysplit.output.comparison_doubts import compared
from energysplit.output.comparison_statistics import welch

Points = Sequence[tuple[float, float]]


def _runs(folder: Path, name: str, seeds: Sequence[Points], stages: int) -> list[Path]:
    return [
        made_up(folder / f"{name}-seed{seed}", points, name=name, seed=seed, growth={"stages": stages})
        for seed, points in enumerate(seeds)
    ]


def _comparison(folder: Path, one: Sequence[Points], two: Sequence[Points]) -> Comparison:
    """ "one" and "two", in which only what the recipe says of stages differs."""
    return compared([read_run(run) for run in [*_runs(folder, "one", one, 2), *_runs(folder, "two", two, 3)]])


SEED = (10e6, 0.50)
ONE = [[SEED, (20e6, 0.60 + e), (40e6, 0.70 + e)] for e in (-0.001, 0.0, 0.001)]
TWO = [[SEED, (20e6, 0.56 + e), (40e6, 0.70 - e)] for e in (-0.001, 0.0, 0.001)]


@pytest.mark.parametrize(
    ("at", "by", "verdict"),
    [
        ("lowest", 0.0, "held"),
        ("lowest", 3.0, "held"),
        ("lowest", 5.0, "not held"),
        ("lowest", 4.0, "not decided"),
        ("last", 0.0, "not decided"),
        ("last", -0.5, "held"),
        ("last", 1.0, "not held"),
        ("every stage", 0.0, "not decided"),
        ("every stage", -0.5, "held"),
        ("every stage", 3.0, "not held"),
    ],
)
def test_an_interval_decides(tmp_path: Path, at: Where, by: float, verdict: str) -> None:
    found = answer(_comparison(tmp_path, ONE, TWO), ClaimTable(better="one", than="two", at=at, by=by))
    assert found.verdict == verdict
    difference = welch([each[1][1] for each in ONE], [each[1][1] for each in TWO])
    if at != "last":
        assert difference.low is not None
        assert f"20.00 M MACs: +4.00 (+{100 * difference.low:.2f} to " in found.why
    assert "10.00 M" not in found.why, "the seed is one network: there is nothing to judge"


@pytest.mark.parametrize(
    ("cost", "accuracy", "by", "verdict"),
    [
        (40e6, 0.60, 0.0, "held"),
        (40e6, 0.60, 9.0, "held"),
        (40e6, 0.60, 11.0, "not held"),
        (40e6, 0.70, 0.0, "not decided"),
        (39e6, 0.60, 0.0, "held"),
        (38e6, 0.60, 0.0, "not decided"),
        (80e6, 0.60, 0.0, "held"),
        (38e6, 0.80, 0.0, "not held"),
        (41.2e6, 0.80, 0.0, "not held"),
        (41.3e6, 0.80, 0.0, "not decided"),
    ],
)
def test_last_networks_decide_as_far_as_their_costs_allow(
    tmp_path: Path, cost: float, accuracy: float, by: float, verdict: str
) -> None:
    """ "one" ends with 40 M and 70 %; "two" has no stage that could be interpolated to its cost."""
    two = [[(cost, accuracy + e)] for e in (-0.001, 0.0, 0.001)]
    comparison = _comparison(tmp_path, ONE, two)
    found = answer(comparison, ClaimTable(better="one", than="two", at="last networks", by=by))
    assert found.verdict == verdict
    assert f"40.00 M MACs and {cost / 1e6:.2f} M MACs: " in found.why
    assert ("but one is 5.3 % dearer" in found.why) == (cost == 38e6 and accuracy < 0.7)
    assert ("but one is 3.1 % cheaper" in found.why) == (cost == 41.3e6)


def test_last_networks_that_are_not_there_are_not_judged(tmp_path: Path) -> None:
    unfinished = made_up(tmp_path / "two", [SEED], name="two", finished=False, growth={"stages": 3})
    comparison = compared([read_run(run) for run in [*_runs(tmp_path, "one", ONE, 2), unfinished]])
    found = answer(comparison, ClaimTable(better="one", than="two", at="last networks"))
    assert (found.verdict, found.why) == ("not decided", "There is no finished run with a test accuracy of both.")


def test_pruning_begins_wide_so_its_first_stage_is_no_seed(tmp_path: Path) -> None:
    pruned = [[(80e6, 0.75 + e), (40e6, 0.65 + e), (20e6, 0.55 + e)] for e in (-0.001, 0.0, 0.001)]
    comparison = _comparison(tmp_path, ONE, pruned)
    found = answer(comparison, ClaimTable(better="one", than="two"))
    assert found.verdict == "held"
    assert [part.split(":")[0] for part in found.why.split("; ")] == ["20.00 M MACs", "40.00 M MACs"]


def test_methods_of_one_stage_are_judged_where_they_are(tmp_path: Path) -> None:
    points = [[(20e6, 0.5 + e)] for e in (-0.001, 0.0, 0.001)]
    assert answer(_comparison(tmp_path, ONE, points), ClaimTable(better="one", than="two")).verdict == "held"


def test_what_cant_be_decided_says_why(tmp_path: Path) -> None:
    claim = ClaimTable(better="one", than="two", at="lowest")
    single = answer(_comparison(tmp_path / "single", ONE[:1], TWO), claim)
    assert (single.verdict, "1 and 3 seeds, too few for an interval" in single.why) == ("not decided", True)
    alike = answer(_comparison(tmp_path / "alike", [ONE[0]] * 2, [TWO[0]] * 2), claim)
    assert (alike.verdict, "2 and 2 seeds, all alike" in alike.why) == ("not decided", True)
    apart = [[SEED, (12e6, 0.6)], [SEED, (12e6, 0.6)]]
    beyond = [[(20e6, 0.5), (40e6, 0.6)]] * 2
    none = answer(_comparison(tmp_path / "apart", apart, beyond), claim)
    assert none.why == "There is no cost above the seed's that both reach."
    comparison = _comparison(tmp_path / "whole", ONE, TWO)
    assert "no finished run of three" in answer(comparison, ClaimTable(better="one", than="three")).why
    latency = ClaimTable(better="one", than="two", provider="latency")
    assert answer(comparison, latency).why == "Latency is not reported by all runs."


def test_the_section_has_a_row_for_each_claim(tmp_path: Path) -> None:
    comparison = _comparison(tmp_path, ONE, TWO)
    answers = [answer(comparison, ClaimTable(better="one", than="two", at=at)) for at in ("lowest", "last")]
    (section,) = claims_section(answers)
    assert [row[1] for row in section.blocks[0].rows] == ["held", "not decided"]  # type: ignore[union-attr]
    assert claims_section([]) == []
