"""The networks that runs end with, compared as they are: costs, epochs and differences from made-up runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from compared_runs import made_up

from energysplit.growth.compared import read_run
from energysplit.output.comparison import Comparison, CostName
from energysplit.output.comparison_doubts import compared
from energysplit.output.comparison_last import last_networks, last_networks_section
from energysplit.output.comparison_statistics import welch
from energysplit.output.document import Paragraph, Table

MACS = CostName("macs")
OTHER = {"growth": {"method": "top_k"}}


def _compared(*folders: Path) -> Comparison:
    return compared([read_run(folder) for folder in folders])


def _rows(comparison: Comparison) -> tuple[tuple[str, ...], ...]:
    (section,) = last_networks_section(comparison)
    table = section.blocks[0]
    assert isinstance(table, Table)
    return table.rows


def test_what_runs_end_with_is_compared_and_nothing_between(tmp_path: Path) -> None:
    """The first network of "grown" would say something else at the cost of "wide", were it looked at."""
    ends = (0.70, 0.71, 0.72)
    grown = [
        made_up(tmp_path / f"g{seed}", [(10e6, 0.10), (21e6, end)], seed=seed, epochs=3)
        for seed, end in enumerate(ends)
    ]
    wide = [
        made_up(tmp_path / f"w{seed}", [(20e6, end - 0.04)], name="wide", seed=seed, epochs=6, **OTHER)
        for seed, end in enumerate(ends)
    ]
    found = _compared(*grown, *wide)
    pair = last_networks(*found.methods, [MACS])
    assert pair is not None
    assert pair.difference == welch(ends, [end - 0.04 for end in ends])
    assert pair.difference.value == pytest.approx(0.04)
    assert pair.costs[MACS] == (21e6, 20e6)
    assert pair.apart(MACS) == "5.0 % dearer"
    # s = 0.01 in both, so four degrees of freedom: 0.04 ± t(0.975, 4) 0.01 sqrt(2 / 3), t = 2.776445.
    assert _rows(found) == (
        (
            "grown − wide",
            "3 and 3",
            "21.00 M and 20.00 M",
            "6 and 6",
            "+4.00",
            "+1.73 to +6.27",
            "grown is better by 4.00 points; seeds alone would rarely do this (p = 0.0080). "
            "grown is 5.0 % dearer in MACs.",
        ),
    )


def test_pruning_ends_with_its_smallest_network_and_each_pair_has_a_row(tmp_path: Path) -> None:
    pruned = made_up(tmp_path / "p", [(40e6, 0.8), (10e6, 0.6)], name="pruned", replaced="pruned")
    grown = made_up(tmp_path / "g", [(10e6, 0.5), (20e6, 0.7)], **OTHER)
    wide = made_up(tmp_path / "w", [(20e6, 0.65)], name="wide", growth={"method": "lp"})
    rows = _rows(_compared(pruned, grown, wide))
    assert [(row[0], row[2], row[4]) for row in rows] == [
        ("pruned − grown", "10.00 M and 20.00 M", "−10.00"),
        ("pruned − wide", "10.00 M and 20.00 M", "−5.00"),
        ("grown − wide", "20.00 M and 20.00 M", "+5.00"),
    ]
    assert "one seed each" in rows[0][-1]


def test_what_an_exported_model_was_measured_to_cost_stands_beside(tmp_path: Path) -> None:
    one = made_up(tmp_path / "a", [(10e6, 0.6), (20e6, 0.7)], measured=0.002)
    two = made_up(tmp_path / "b", [(10e6, 0.6), (20e6, 0.65)], name="b", measured=0.003, **OTHER)
    (row,) = _rows(_compared(one, two))
    assert row[2:4] == ("20.00 M and 20.00 M", "2.00 ms and 3.00 ms")


@pytest.mark.parametrize("change", [{"finished": False}, {"points": [(10e6, None)]}])
def test_runs_that_are_not_finished_or_not_tested_have_no_last_network(tmp_path: Path, change) -> None:
    points = change.pop("points", [(10e6, 0.6)])
    other = made_up(tmp_path / "b", points, name="b", **change, **OTHER)
    found = _compared(made_up(tmp_path / "a", [(10e6, 0.6)], name="a"), other)
    assert last_networks(*found.methods, [MACS]) is None
    assert last_networks_section(found) == []
    third = made_up(tmp_path / "c", [(10e6, 0.6)], name="c", growth={"method": "lp"})
    (section,) = last_networks_section(_compared(tmp_path / "a", other, third))
    assert section.blocks[1] == Paragraph("No finished run of both with a test accuracy: a and b; b and c.")
    seed = made_up(tmp_path / "b1", [(10e6, 0.5)], name="b", seed=1, **OTHER)
    (row,) = _rows(_compared(tmp_path / "a", other, seed))
    assert row[1] == "1 and 1", "the seed that can be compared is"


def test_one_method_has_nothing_to_stand_beside(tmp_path: Path) -> None:
    assert last_networks_section(_compared(made_up(tmp_path / "a", [(10e6, 0.6)]))) == []
