"""Reports hold every number of the journal, in HTML and Markdown, and load nothing. The journals are synthetic."""

from __future__ import annotations

import doctest
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import energysplit as es
from energysplit.errors import CheckpointError, InputError
from energysplit.measure.summary import Summary
from energysplit.output import numbers
from energysplit.output.environment import ENVIRONMENT_FILE, write_environment
from energysplit.output.measured import MEASURED_FILE, Compared, MeasuredRun, Sample, read_measured, write_measured
from energysplit.output.numbers import compact, duration, file_name, percent, quantity, signed
from energysplit.output.parity import OnnxParity
from energysplit.output.report import write_report
from energysplit.output.report_markdown import escape
from energysplit.records import CostRecord, GrowthRecord
from energysplit.surgery.step import choose_step

MakeRecords = Callable[..., list[GrowthRecord]]
VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """Checks nesting and unique ids; collects text, tables and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.tags.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                self.addresses.append(value or "")
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if "th" in self.open or "td" in self.open:
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def markdown_tables(text: str) -> list[list[list[str]]]:
    """Rows of cells of every table."""
    tables: list[list[list[str]]] = []
    before = ""
    for line in text.splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                tables.append([])
            cells = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
            tables[-1].append([cell.strip() for cell in cells])
        before = line
    return tables


@pytest.fixture(scope="module")
def parity() -> OnnxParity:
    return OnnxParity(
        path=Path("model.onnx"),
        absolute=3.1e-6,
        relative=2.2e-7,
        tolerance=1e-4,
        images=4,
        opset=20,
        runtime="onnxruntime 1.2.3",
        torch="2.3.4",
    )


@pytest.fixture(autouse=True)
def _drawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of a report's time; drawn are those that a test looks at."""
    if request.node.get_closest_marker("draws") is None:
        monkeypatch.setattr("energysplit.output.figure_style._save_svg", lambda *_: "<svg></svg>")
        monkeypatch.setattr("energysplit.output.figure_style.to_png", lambda *_, **__: b"")


def test_numbers_doctests() -> None:
    found = doctest.testmod(numbers)
    assert found.attempted >= 8
    assert found.failed == 0


@pytest.mark.draws
def test_report_holds_every_number(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any], parity: OnnxParity
) -> None:
    records = synthetic_records()
    (tmp_path / ENVIRONMENT_FILE).write_text('{"torch": "2.3.4", "processor": "abacus"}')
    path = write_report(tmp_path, synthetic_recipe, records, parity)
    assert path == tmp_path / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    head, *rows = page.tables[0]
    assert "Test accuracymeasured, not used to choose anything" in head
    assert len(rows) == len(records)
    for record, row in zip(records, rows, strict=True):
        assert record.test is not None
        assert row[:6] == [
            str(record.stage),
            compact(record.prices["macs"].value),
            compact(record.prices["params"].value),
            str(sum(record.widths.values())),
            percent(record.validation.accuracy),
            percent(record.test.accuracy),
        ]
        if record.growth is None:
            assert row[6:] == ["–"] * 5
            continue
        step = record.growth.step
        assert row[6] == str(sum(map(len, record.growth.allocation.split.values())))
        assert row[7].startswith(signed(step.predicted_change))
        assert row[8] == signed(step.realised_change)
        assert float(row[9].rstrip("×").replace("−", "-")) == pytest.approx(
            step.realised_change / step.predicted_change, rel=0.005
        )
        assert float(row[10].rstrip("×").replace("−", "-")) == pytest.approx(
            step.small_realised_change / step.small_predicted_change, rel=0.005
        )
    for text in (page.text, markdown):
        for record in records:
            assert duration(sum(record.seconds.values())) in text
            if record.growth:
                assert signed(record.growth.index.sum_same_images) in text
                assert signed(record.growth.index.sum_held_out) in text
        for needed in (
            "exact: through every nonlinearity",
            "beta 3",
            "skip:",
            "2.2e-07",
            "onnxruntime 1.2.3",
            "abacus",
        ):
            assert needed in text
        assert "not used to choose anything" in text
        assert "becomes exact as the step goes to zero" in text


def test_budgets_say_what_is_left_and_what_more_would_buy(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any]
) -> None:
    records = synthetic_records(stages=3)
    growth = records[1].growth
    assert growth is not None
    made = {"features.first.conv": {0: "pair", 2: "quadruple"}, "classifier": {1: "pair"}}
    bought = growth.allocation.model_copy(update={"kinds": made, "mass": 2.5, "shadow_price": {"macs": 0.0}})
    records[1] = records[1].model_copy(update={"growth": growth.model_copy(update={"allocation": bought})})
    page = Page(write_report(tmp_path, synthetic_recipe, records).read_text(encoding="utf-8"))
    (table,) = [table for table in page.tables if "Limit" in table[0]]
    left = table[0].index("Left")
    for row, record in zip(table[1:], records, strict=False):
        assert record.growth is not None
        macs, limit = record.growth.allocation.price["macs"], record.growth.allocation.limit["macs"]
        assert row[left] == quantity(limit - macs.value, "MAC")
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    # Shadow price 1.2e-6 a MAC, 2.1 M MACs, gain 1.5.
    assert "0 → 1, MACs: 100 k MACs more would buy 0.120 (8.0 % more gain)" in markdown
    assert "1 → 2, MACs: not binding: more of it would buy nothing" in markdown
    assert "1 → 2, kinds: 2 pair, 1 quadruple; mass 2.5" in markdown
    assert "0 → 1, kinds" not in markdown
    # Said before anything is told in gain.
    assert 0 < markdown.index("Gain is the sum of") < markdown.index("more gain")


def test_widths_are_told_of_the_groups_that_grew(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any]
) -> None:
    records = synthetic_records(stages=3, groups=5)
    page = Page(write_report(tmp_path, synthetic_recipe, records).read_text(encoding="utf-8"))
    (table,) = [table for table in page.tables if table[0][0] == "Group"]
    assert table[0] == ["Group", "Seed", "Stage 1", "Stage 2"]
    *grown, classes = records[0].widths
    assert table[1:] == [[group, *(str(record.widths[group]) for record in records)] for group in grown]
    assert "Did not grow (channels): classifier (10)." in page.text
    assert classes == "classifier"
    once = write_report(tmp_path, synthetic_recipe, synthetic_records(stages=1))
    assert "Nothing was split, so no group grew." in Page(once.read_text(encoding="utf-8")).text


def test_steps_of_one_size_do_not_follow_the_weights(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any]
) -> None:
    records = synthetic_records(stages=2, groups=3)
    growth = records[0].growth
    assert growth is not None
    net = es.trace(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(2, 3))
    for rule, number, follow in (("relative", 0.3, True), ("fixed", 0.1, False)):
        said = choose_step(net, ["0"], policy=rule, size=number).policy
        step = growth.step.model_copy(update={"policy": said})
        records[0] = records[0].model_copy(update={"growth": growth.model_copy(update={"step": step})})
        text = Page(write_report(tmp_path, synthetic_recipe, records).read_text(encoding="utf-8")).text
        assert f"(policy {said}; " in text
        assert said.startswith(f"{rule}: {number}")
        assert ("norms of the groups' weights, which steps follow" in text) is follow


def test_signed_runs_say_which_end_and_what_the_kinds_are(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any]
) -> None:
    records = synthetic_records(stages=3, groups=3)
    plain = Page(write_report(tmp_path, synthetic_recipe, records).read_text(encoding="utf-8"))
    assert "half the squared step times the held-out splitting indices of the neurons that were split." in plain.text
    assert "Gain is the sum of the bought indices, its sign turned, times the squared norms" in plain.text
    assert "lower end" not in plain.text
    for number, made in enumerate([{"features.first.conv": {0: "pair", 3: "quadruple"}}, {}]):
        growth = records[number].growth
        assert growth is not None
        first = {**made, "features.block1.pointwise.conv": {1: "signed_pair", 2: "pair"}}
        bought = growth.allocation.model_copy(update={"kinds": first, "mass": 2.0})
        records[number] = records[number].model_copy(
            update={"growth": growth.model_copy(update={"allocation": bought})}
        )
    page = Page(write_report(tmp_path, synthetic_recipe, records).read_text(encoding="utf-8"))
    (table,) = [table for table in page.tables if table[0][0] == "Group"]
    assert table[0][-1] == "Splits by kindall growths"
    assert [row[-1] for row in table[1:]] == ["1 pair, 1 quadruple", "2 pair, 2 signed_pair"]
    assert (
        "pair 2 (lower end), signed_pair 2 (upper end), low_triple 3 (lower end), high_triple 3 (upper end), "
        "quadruple 4 (both ends)."
    ) in page.text
    (sums,) = [table for table in page.tables if "Solver" in table[0]]
    assert sums[0][5:] == [
        "Sum of lower ends, same imagesmeasured",
        "Sum of lower ends, held-out imagesestimated",
        "Lower ends below zerocounted",
    ]
    for words in (
        "both held-out ends of their spectrum, the smallest and the largest eigenvalue, each times the factor",
        "terms of third order (of a signed_pair) and of fourth order count too",
        "Gain is the sum of what the bought splits count of both ends",
        "the sums and counts here are of the lower ends alone",
    ):
        assert words in page.text


def test_prices_have_their_units(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any]
) -> None:
    seconds = CostRecord(value=8.15e-6, unit="s", low=8e-6, high=8.3e-6, source="interpolated: a table")
    memory = CostRecord(value=1_410.0, unit="B", low=1_410.0, high=1_410.0, source="counted")
    records = [
        record.model_copy(update={"prices": {"latency": seconds, "peak_memory": memory}})
        for record in synthetic_records(stages=2)
    ]
    recipe = {**synthetic_recipe, "budget": [{"provider": "latency", "limit": 9e-6, "scope": "stage"}]}
    page = Page(write_report(tmp_path, recipe, records).read_text(encoding="utf-8"))
    assert page.tables[0][0][1:3] == ["Latencyinterpolated", "Peak memorycounted"]
    assert page.tables[0][1][1:3] == ["8.15 µs (8.00 µs to 8.30 µs)", "1.41 kB"]
    assert "seed: 8.15 µs" in page.text
    assert "Latency at most 9.00 µs, each stage" in page.text
    assert "Accuracy against peak memory." in page.text
    assert "peak_memory" not in page.text


@pytest.mark.draws
def test_html_loads_nothing(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any], parity: OnnxParity
) -> None:
    text = write_report(tmp_path, synthetic_recipe, synthetic_records(), parity).read_text(encoding="utf-8")
    page = Page(text)
    # The colour bar of the widths is a small picture inside the page.
    inside = [address for address in page.addresses if not address.startswith("data:image/png;base64,")]
    assert len(page.addresses) - len(inside) == 1
    assert all(address.startswith("#") and address[1:] in page.ids for address in inside)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?:|@import|url\((?!#)", text)
    assert page.tags.count("svg") == 5
    assert "prefers-color-scheme: dark" in text


def test_markdown_tables_agree_with_the_page(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any]
) -> None:
    path = write_report(tmp_path, synthetic_recipe, synthetic_records())
    tables = markdown_tables((tmp_path / "report.md").read_text(encoding="utf-8"))
    pages = Page(path.read_text(encoding="utf-8")).tables
    assert len(tables) == len(pages) == 5
    for table, page in zip(tables, pages, strict=True):
        assert {len(row) for row in table} == {len(page[0])}
        assert re.fullmatch(r"(-{3}:?)+", "".join(table[1]))
        assert table[2:] == page[1:]


@pytest.mark.draws
def test_figures_are_beside_the_markdown(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any]
) -> None:
    write_report(tmp_path, synthetic_recipe, synthetic_records())
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    named = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert len(named) == 5
    assert all((tmp_path / name).is_file() for name in named)
    assert (tmp_path / "figures" / "growth.png").is_file()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["figures", "report.html", "report.md"]


@pytest.mark.draws
def test_hostile_names_are_shown_not_run(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any]
) -> None:
    name = "<script>alert(1)</script>|`x`"
    cost = CostRecord(value=2.0, unit="<b>", low=1.5, high=2.5, source="measured: <i>here</i>")
    records = [
        record.model_copy(
            update={
                "prices": {"../my:<Cost>": cost},
                "widths": {f'{group}<&"$x_1$': width for group, width in record.widths.items()},
                "stopped": "no <em>room</em>",
            }
        )
        for record in synthetic_records()
    ]
    recipe = {**synthetic_recipe, "name": name}
    text = write_report(tmp_path, recipe, records).read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "b", "i", "em"} & set(page.tags)
    assert name in page.text
    assert "2 <b> (1.50 <b> to 2.50 <b>)" in page.text
    assert "<script>" not in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert file_name("../my:<Cost>") == "---my--Cost-"
    assert (tmp_path / "figures" / "accuracy----my--Cost-.svg").is_file()


@pytest.mark.draws
def test_a_run_without_growth(tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any]) -> None:
    records = synthetic_records(stages=1, tested=False)
    page = Page(write_report(tmp_path, synthetic_recipe, records).read_text(encoding="utf-8"))
    assert "Trained without growth at 1.23\N{NO-BREAK SPACE}M MACs" in " ".join(page.words)
    assert "Nothing was split" in page.text
    assert "No ONNX model was exported" in page.text
    assert "no test accuracy was measured" in page.text


def test_curvature_of_the_paper_is_not_called_exact(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any]
) -> None:
    records = []
    for record in synthetic_records(stages=3):
        growth = record.growth
        if growth is not None:
            growth = growth.model_copy(update={"index": growth.index.model_copy(update={"curvature": "producer"})})
        records.append(record.model_copy(update={"growth": growth}))
    page = Page(write_report(tmp_path, synthetic_recipe, records).read_text(encoding="utf-8"))
    assert "it leaves the followers out" in page.text
    assert "becomes exact" not in page.text


@pytest.mark.draws
def test_numbers_that_are_not_finite_are_said_so(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any]
) -> None:
    records = synthetic_records(stages=2)
    assert records[0].growth is not None
    growth = records[0].growth
    step = growth.step.model_copy(update={"realised_change": float("nan"), "predicted_stderr": float("inf")})
    index = growth.index.model_copy(update={"sweeps": float("nan"), "stderr": float("nan")})
    records[0] = records[0].model_copy(update={"growth": growth.model_copy(update={"step": step, "index": index})})
    page = Page(write_report(tmp_path, synthetic_recipe, records).read_text(encoding="utf-8"))
    assert page.tables[0][1][7:] == ["−0.0432 ± +∞", "not finite", "not finite", "0.993×"]


def test_the_machine_is_that_of_the_run_or_said_to_be_another(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any]
) -> None:
    records = synthetic_records(stages=2)
    write_environment(tmp_path)
    there = Page(write_report(tmp_path, synthetic_recipe, records).read_text(encoding="utf-8"))
    assert "Versions and machine of the run" in there.text
    (tmp_path / ENVIRONMENT_FILE).unlink()
    here = Page(write_report(tmp_path, synthetic_recipe, records).read_text(encoding="utf-8"))
    assert "Versions and machine this report was written with" in here.text


def test_an_empty_journal_writes_nothing(tmp_path: Path, synthetic_recipe: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="the journal has no stage to report"):
        write_report(tmp_path, synthetic_recipe, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("lost", ["all", "macs", "params"])
def test_stages_without_the_same_prices_are_named(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any], stage: int, lost: str
) -> None:
    records = synthetic_records(2)
    assert {"macs", "params"} <= records[0].prices.keys()
    left = {name: price for name, price in records[stage].prices.items() if lost not in ("all", name)}
    records[stage] = records[stage].model_copy(update={"prices": left})
    with pytest.raises(InputError, match=r"journal\.jsonl: stage \d has other prices than stage 0, or none"):
        write_report(tmp_path, synthetic_recipe, records)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_without_usual_values_is_told_without_them(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any]
) -> None:
    odd = {**synthetic_recipe, "step": {**synthetic_recipe["step"], "size": "large"}, "budget": None}
    page = Page(write_report(tmp_path, odd, synthetic_records(3)).read_text(encoding="utf-8"))
    assert re.search(r"\(policy \w+: ", page.text)
    assert re.search(r"Budgets\W+not recorded", (tmp_path / "report.md").read_text(encoding="utf-8"))


def test_markdown_escape() -> None:
    assert escape("a|b *c* <d>\n# e_f") == r"a\|b \*c\* &lt;d&gt; \# e\_f"


def compared(**changes: Any) -> Compared:
    """A made-up comparison: predicted 2 ms, measured 2.1 ms."""
    made: dict[str, Any] = {
        "predicted": CostRecord(value=2e-3, unit="s", low=1.9e-3, high=2.2e-3, source="interpolated"),
        "measured": Sample(median=2.1e-3, low=2.05e-3, high=2.15e-3, samples=20),
        "ratio": 1.05,
        "plain": Sample(median=2.6e-3, low=2.5e-3, high=2.7e-3, samples=20),
        "reference_s": 1e-3,
        "machine": "abacus <1>",
        "runtime": "onnxruntime 1.2.3",
        "execution_provider": "CPUExecutionProvider",
        "threads": 2,
        "precision": "fp32",
        "warnings": ("this machine is noisy",),
    }
    return Compared(**{**made, **changes})


def test_predicted_and_measured_prices_stand_side_by_side(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any]
) -> None:
    records = synthetic_records()
    joules = CostRecord(value=3e-3, unit="J", low=1e-3, high=5e-3, source="estimated: a profile")
    unread = compared(predicted=joules, measured=None, ratio=None, plain=None, reference_s=None, warnings=("no meter",))
    measured = MeasuredRun(
        weights_sha256=records[-1].weights_sha256,
        prices={"latency": compared(), "energy": unread},
        not_measured={"latency#2": "its table is of another machine"},
    )
    write_measured(tmp_path, measured)
    assert read_measured(tmp_path) == measured
    path = write_report(tmp_path, synthetic_recipe, records)
    page = Page(path.read_text(encoding="utf-8"))
    markdown = path.with_suffix(".md").read_text(encoding="utf-8")
    latency = ["Latency", "2.00 ms", "1.90 ms to 2.20 ms", "2.10 ms", "2.05 ms to 2.15 ms", "20", "1.05×", "2.60 ms"]
    energy = ["Energy", "3.00 mJ", "1.00 mJ to 5.00 mJ", *["–"] * 5]
    for tables in (page.tables, markdown_tables(markdown)):
        assert any(latency in table and energy in table for table in tables)
    for text in (page.text, markdown.replace("\\", "").replace("&lt;", "<").replace("&gt;", ">")):
        assert "abacus <1>, onnxruntime 1.2.3, CPUExecutionProvider, 2 threads, fp32" in text
        assert "this machine is noisy" in text
        assert "Latency #2 was not measured: its table is of another machine." in text
    assert compared().sentence == "predicted 2.00 ms, measured 2.10 ms (2.05 ms to 2.15 ms), 1.05× the prediction"


def test_an_interval_of_few_samples_says_what_it_covers(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any]
) -> None:
    few = Sample(median=2.1e-3, low=2.05e-3, high=2.15e-3, samples=3)
    records = synthetic_records()
    prices = {"latency": compared(), "energy": compared(measured=few)}
    write_measured(tmp_path, MeasuredRun(weights_sha256=records[-1].weights_sha256, prices=prices))
    text = Page(write_report(tmp_path, synthetic_recipe, records).read_text(encoding="utf-8")).text
    assert "holds the median with 95 % (Energy's, of 3 samples, with 75.00 %)." in text
    assert "2.15 ms, coverage 75.00 %)" in prices["energy"].sentence


def test_the_coverage_said_is_that_of_the_summary() -> None:
    for count in range(1, 40):
        sample = Sample(median=2.0, low=1.0, high=3.0, samples=count)
        assert sample.coverage == pytest.approx(min(0.95, Summary.of([*range(count)]).coverage))


@pytest.mark.parametrize("text", ["", "[]", '{"version": 2}', "\xff"])
def test_a_damaged_measurement_is_said_and_the_report_is_written(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any], text: str
) -> None:
    (tmp_path / MEASURED_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"measured.json is damaged .*; remove it, and --resume measures again"):
        read_measured(tmp_path)
    path = write_report(tmp_path, synthetic_recipe, synthetic_records())
    assert "measured.json is damaged" in Page(path.read_text(encoding="utf-8")).text


def test_the_device_and_options_of_budgets_are_told(
    tmp_path: Path, synthetic_records: MakeRecords, synthetic_recipe: dict[str, Any]
) -> None:
    recipe = {
        **synthetic_recipe,
        "hardware": {"profile": "gap9", "tables": None, "strict": False},
        "budget": [{"provider": "energy", "limit": 0.002, "scope": "network", "options": {"precision": "int8"}}],
    }
    page = Page(write_report(tmp_path, recipe, synthetic_records()).read_text(encoding="utf-8"))
    assert "profile = gap9, strict = no" in page.text
    assert "Energy (precision = int8) at most 0.002, in all" in page.text
