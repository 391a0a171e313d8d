"""Cost tables: what is written comes back, and whatever is wrong in one is said when it is read."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energysplit.costs.table import PROVENANCE, CostTable, FamilyError, Provenance, TableRow, columns
from energysplit.errors import InputError
from energysplit.measure.table_files import write
from energysplit.types import LayerCase

CONV = LayerCase(
    "conv2d", 8, 16, (3, 3), (2, 2), (1, 1), in_size=(16, 12), out_size=(8, 6), batch_norm=True, activation="relu"
)
ROWS = (
    TableRow(CONV, 2e-5, 1.5e-5, 3e-5, 12, "s"),
    TableRow(replace(CONV, out_channels=24), 3e-5, 3e-5, 3e-5, 24, "s"),
    TableRow(LayerCase("linear", 64, 10, bias=True), 1e-6, 0.0, 2e-6, 12, "s"),
    TableRow(LayerCase("add", 8, 8, groups=8, in_size=(4, 4), out_size=(4, 4)), 0.0, 0.0, 0.0, 1, "s"),
)


def provenance(cost="latency", **said):
    unit = {"latency": "s", "energy": "J"}[cost]
    return Provenance(
        **{
            "cost": cost,
            "unit": unit,
            "machine": "A CPU",
            "system": "Linux",
            "runtime": "onnxruntime",
            "runtime_version": "1.31.1",
            "execution_provider": "CPUExecutionProvider",
            "threads": 1,
            "precision": "fp32",
            "date": "2026-01-01T00:00:00Z",
            "command": "energysplit profile",
            **said,
        }
    )


@pytest.fixture
def folder(tmp_path):
    """A folder with a sound latency table."""
    return write(CostTable(provenance(), ROWS), tmp_path / "table")


def damage(folder, old, new, file="latency-conv2d.csv", count=1):
    """Replace text in one of the table's files."""
    path = folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def test_what_is_written_comes_back(tmp_path):
    said = provenance(
        meter="a meter",
        clock_mhz=2600.0,
        reference_s=1.25e-3,
        overhead=2e-6,
        overhead_low=1e-6,
        overhead_high=3e-6,
        network_error=0.04,
        networks=24,
        noise=0.02,
        multiple_of=8,
        warnings=("the machine was busy: stop other programs",),
        families=(FamilyError(model="cnn", image=(1, 8, 8), networks=24, mean_error=0.02, within_10=1.0),),
    )
    folder = write(CostTable(said, ROWS), tmp_path / "new" / "table")
    table = CostTable.read(folder, "latency")
    assert table.provenance == said
    assert set(table.rows) == set(ROWS)
    assert table.folder == folder
    assert CostTable.read(str(folder)).rows == table.rows
    assert sorted(path.name for path in folder.iterdir()) == [
        "latency-add.csv", "latency-conv2d.csv", "latency-linear.csv", PROVENANCE,
    ]  # fmt: skip
    cost = table.provenance.overhead_cost
    assert (cost.value, cost.low, cost.high, cost.unit) == (2e-6, 1e-6, 3e-6, "s")
    assert cost.source.startswith("measured")
    assert provenance().overhead_cost is None


def test_the_same_table_is_the_same_files(tmp_path):
    def files(folder):
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    first = files(write(CostTable(provenance(), ROWS), tmp_path / "a"))
    assert files(write(CostTable(provenance(), ROWS[::-1]), tmp_path / "b")) == first


def test_what_a_killed_write_left_is_removed(folder):
    (folder / ".table.a1b2").mkdir(mode=0o700)
    (folder / ".table.a1b2" / "latency-conv.csv").write_text("half")
    write(CostTable(provenance(), ROWS), folder)
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    assert len(CostTable.read(folder, "latency").rows) == len(ROWS)


def test_tables_of_two_costs_share_a_folder(folder):
    row = TableRow(CONV, 2e-3, 1e-3, 3e-3, 12, "J")
    write(CostTable(provenance("energy", meter="replay"), (row,)), folder)
    assert CostTable.read(folder, "energy").rows == (row,)
    assert len(CostTable.read(folder, "latency").rows) == len(ROWS)
    # Written again with fewer kinds of operation: nothing old is left, nothing else is touched.
    write(CostTable(provenance(), ROWS[:1]), folder)
    assert CostTable.read(folder, "latency").rows == ROWS[:1]
    assert CostTable.read(folder, "energy").provenance.meter == "replay"


def sizes(least=0):
    return st.tuples(st.integers(least, 4096), st.integers(least, 4096))


OPS = get_args(get_type_hints(LayerCase)["op"])
CASES = st.builds(
    LayerCase,
    op=st.sampled_from(OPS),
    in_channels=st.integers(0, 10**6),
    out_channels=st.integers(0, 10**6),
    kernel=sizes(1),
    stride=sizes(1),
    padding=sizes(),
    dilation=sizes(1),
    groups=st.integers(1, 10**6),
    in_size=sizes(1),
    out_size=sizes(1),
    bias=st.booleans(),
    batch_norm=st.booleans(),
    activation=st.one_of(st.none(), st.sampled_from(("relu", "silu", "gelu (tanh)", 'a "b", c'))),
    macs=st.integers(0, 10**15),
    params=st.integers(0, 10**12),
    shared=st.booleans(),
)


@given(cases=st.lists(CASES, min_size=1, max_size=6, unique=True), live=st.integers(0, 9), data=st.data())
def test_any_case_survives(cases, live, data):
    numbers = st.floats(0, 1e6, allow_subnormal=False)
    rows = []
    for case in cases:
        # Six digits are kept.
        low, median, high = sorted(float(f"{data.draw(numbers):.6g}") for _ in range(3))
        rows.append(TableRow(replace(case, live=live), median, low, high, data.draw(st.integers(0, 10**6)), "s"))
    with tempfile.TemporaryDirectory() as folder:
        read = CostTable.read(write(CostTable(provenance(), tuple(rows)), folder)).rows
    assert set(read) == {replace(row, case=replace(row.case, live=0)) for row in rows}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            ",activation,",
            ",",
            r"latency-conv2d\.csv: column 'activation' is missing; expected op, in_channels, .*again",
        ),
        ("samples,unit", "samples,units", "column 'unit' is missing"),
        ("12,s\n", "12,ms\n", r"latency-conv2d\.csv, line 2: unit is 'ms', 's' expected \(SI; convert the numbers\)"),
        ("2e-05", "nan", r"line 2: median is 'nan', a finite number of at least 0 expected; remove the row"),
        ("2e-05", "inf", r"line 2: median is 'inf', a finite number"),
        ("2e-05", "", r"line 2: median is '', a finite number"),
        ("2e-05", "fast", r"line 2: median is 'fast', a finite number"),
        ("1.5e-05", "-1.5e-05", r"line 2: low is '-1.5e-05', a finite number of at least 0 expected"),
        ("2e-05", "4e-05", r"line 2: median 4e-05 is outside its interval, 1.5e-05 to 3e-05"),
        ("\nconv2d", "\nconv3d", r"line 2: op is 'conv3d'; did you mean 'conv[12]d'"),
        ("\nconv2d,8,", "\nconv2d,8.5,", r"line 2: in_channels is '8.5', a whole number of at least 0 expected"),
        ("\nconv2d,8,", "\nconv2d,-8,", r"line 2: in_channels is '-8', a whole number"),
        ("\nconv2d,8,16,3,3", "\nconv2d,8,16,,3", r"line 2: kernel_h is '', a whole number"),
        (",s\n", "\n", r"line 2: unit is None, 's' expected"),
    ],
)
def test_a_wrong_row_is_named(folder, old, new, message):
    damage(folder, old, new)
    with pytest.raises(InputError, match=message):
        CostTable.read(folder)


def test_a_file_that_is_no_text_is_named(folder):
    (folder / "latency-conv2d.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"latency-conv2d\.csv can't be read as a cost table"):
        CostTable.read(folder)


def test_an_empty_file_has_no_columns(folder):
    (folder / "latency-conv2d.csv").write_text("")
    with pytest.raises(InputError, match="column 'op' is missing"):
        CostTable.read(folder)


def again(folder, median, low, high):
    """The table's first row once more, with other numbers."""
    path = folder / "latency-conv2d.csv"
    line = path.read_text().splitlines()[1].split(",")
    start = columns().index("median")
    line[start : start + 3] = [repr(median), repr(low), repr(high)]
    path.write_text(path.read_text() + ",".join(line) + "\n")


def test_two_rows_of_one_case_must_agree(folder):
    again(folder, 2.2e-5, 1.9e-5, 3e-5)
    assert len(CostTable.read(folder).rows) == len(ROWS) + 1
    again(folder, 3.5e-5, 3.1e-5, 4e-5)
    with pytest.raises(InputError, match=r"line 5: the case was measured as 3.5e-05 s here and as 2e-05 in .*line 2"):
        CostTable.read(folder)


def test_a_little_apart_is_noise(folder):
    again(folder, 2.9e-5, 2.9e-5, 2.9e-5)  # 1.45 times
    assert len(CostTable.read(folder).rows) == len(ROWS) + 1


def test_a_third_row_is_compared_with_all_before(folder):
    again(folder, 2.2e-5, 1e-5, 9e-5)
    again(folder, 8e-5, 7e-5, 9e-5)
    with pytest.raises(InputError, match="one case, one price: remove the wrong row or measure again"):
        CostTable.read(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"provenance\.toml: can't be read .*; a table without its provenance is of no use"),
        ("[latency\n", r"provenance\.toml: no valid TOML"),
        ("", r"provenance\.toml: no section \[latency\]"),
        ("[latncy]\n", r"no section \[latency\]; did you mean 'latncy'"),
        ("latency = 3\n", r"no section \[latency\]"),
        ("[latency]\n", r"provenance\.toml, \[latency\]: cost: missing; expected 'latency' or 'energy'"),
    ],
)
def test_a_table_needs_its_provenance(folder, text, message):
    path = folder / PROVENANCE
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(InputError, match=message):
        CostTable.read(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("threads = 1", "thread = 1", r"toml, \[latency\]: thread: unknown key; did you mean 'threads'\?"),
        ("threads = 1", 'threads = "many"', r'threads: expected a whole number > 0, given "many" \(a string\)'),
        ("threads = 1", "threads = 0", r"\[latency\]: threads: expected a whole number > 0"),
        ('unit = "s"', 'unit = "ms"', r"latency\.unit is 'ms', 's' expected \(SI\)"),
        ("version = 1", "version = 2", r"\[latency\]: version: expected 1, given 2"),
        ("overhead = 0.0", "overhead = nan", r"\[latency\]: overhead: expected a number >= 0, given NaN"),
        ("overhead = 0.0", "overhead = -1.0", r"\[latency\]: overhead: expected a number >= 0"),
        ("overhead = 0.0", "overhead = 1.0", r"latency\.overhead is 1, outside its interval, 0 to 0"),
        ("multiple_of = 1", "multiple_of = 0", r"\[latency\]: multiple_of: expected a whole number > 0"),
        ('cost = "latency"', 'cost = "energy"', r"latency\.cost is 'energy', 'latency' expected"),
    ],
)
def test_a_wrong_entry_of_the_provenance_is_named(folder, old, new, message):
    damage(folder, old, new, PROVENANCE)
    with pytest.raises(InputError, match=message):
        CostTable.read(folder)


def test_what_is_not_there_is_named_with_the_command_that_makes_it(folder, tmp_path):
    with pytest.raises(
        InputError, match=r"nowhere: holds no latency table \(no such folder\); measure one with 'energy"
    ):
        CostTable.read(tmp_path / "nowhere")
    with pytest.raises(
        InputError, match=r"holds no energy table \(latency-add\.csv, .*energysplit profile --for RECIPE --out .*--e"
    ):
        CostTable.read(folder, "energy")
    with pytest.raises(InputError, match=r"cost 'latncy': no such table; did you mean 'latency'"):
        CostTable.read(folder, "latncy")
    assert Path(folder).is_dir()
