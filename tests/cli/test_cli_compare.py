"""`energysplit compare`: the page of two real tiny runs, and one clear message for whatever can't be compared."""

from __future__ import annotations

from pathlib import Path

import growth_runs
import pytest
from compared_runs import made_up
from typer.testing import CliRunner

from energysplit import growth
from energysplit.cli import app
from energysplit.growth import journal
from energysplit.output.measured import read_measured, write_measured
from energysplit.output.numbers import percent


def _compare(*arguments: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def test_two_real_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth.loop, "write_report", lambda *_: None)
    runs = [tmp_path / f"seed{seed}" for seed in range(2)]
    for seed, run in enumerate(runs):
        growth.grow(growth_runs.tiny(growth={"stages": 1}, seed=seed), run_dir=run)  # type: ignore[arg-type]
    before = {path: path.read_bytes() for run in runs for path in run.rglob("*") if path.is_file()}
    monkeypatch.chdir(tmp_path)
    stdout, stderr = _compare(*runs)
    assert stdout.splitlines() == [
        "tiny: accuracy against MACs, parameters and training compute.",
        "comparison: comparison/compare.html",
    ]
    assert stderr == ""
    text = (tmp_path / "comparison" / "compare.md").read_text()
    for stage in range(2):
        tests = [journal.read(run / "journal.jsonl")[stage].test for run in runs]
        assert all(tests)
        assert f"| {percent(sum(test.accuracy for test in tests if test) / 2)} |" in text
    assert "One method only" in text
    assert (tmp_path / "comparison" / "figures" / "accuracy-params.svg").is_file()
    assert before == {path: path.read_bytes() for run in runs for path in run.rglob("*") if path.is_file()}


def test_warnings_and_the_named_cost(tmp_path: Path) -> None:
    one = made_up(tmp_path / "one", [(10e6, 0.6)])
    two = made_up(tmp_path / "two", [(10e6, 0.7)], name="two", data={"limit": 50})
    stdout, stderr = _compare(one, two, "--out", tmp_path / "out", "--provider", "macs")
    assert stdout.splitlines()[0] == "grown against two: accuracy against MACs. 1 doubt below."
    assert stderr == "warning: Not comparable: data.limit differs: not set (grown); 50 (two).\n"
    page = (tmp_path / "out" / "compare.html").read_text()
    assert page.index("Not comparable: data.limit differs") < page.index("Accuracy against cost")


def test_folders_among_the_runs_that_are_none_are_left_out(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    one, two = made_up(runs / "one", [(10e6, 0.6)]), made_up(runs / "two", [(10e6, 0.7)], seed=1)
    bench = runs / "bench"
    bench.mkdir()
    stdout, stderr = _compare(bench, one, two, "--out", tmp_path / "out")
    assert "accuracy against MACs" in stdout
    assert stderr == f"warning: {bench} is left out: no run folder, it has neither recipe.json nor journal.jsonl\n"
    assert "recipe.json can't be read" in _compare(bench, code=2)[1]


def test_no_run_is_refused() -> None:
    assert "Missing argument 'RUN...'" in _compare(code=2)[1]


def _damage(run: Path) -> None:
    text = (run / "journal.jsonl").read_text()
    (run / "journal.jsonl").write_text(text.replace('"stage":0', '"stage":0 '))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "journal.jsonl").unlink(), "no finished stage yet, so nothing to compare"),
        (lambda run: (run / "journal.jsonl").write_text(""), "no finished stage yet, so nothing to compare"),
        (_damage, "journal.jsonl, line 1: damaged (its checksum differs)"),
        (lambda run: (run / "recipe.json").write_text("{"), "recipe.json is damaged"),
        (lambda run: (run / "recipe.json").unlink(), "recipe.json can't be read"),
        (lambda run: (run / "measured.json").write_text("{"), "measured.json is damaged"),
    ],
)
def test_runs_that_cant_be_read_are_refused(tmp_path: Path, spoil, message: str) -> None:
    good, bad = made_up(tmp_path / "good", [(10e6, 0.6)]), made_up(tmp_path / "bad", [(10e6, 0.6)], seed=1)
    spoil(bad)
    _, stderr = _compare(good, bad, "--out", tmp_path / "out", code=2)
    assert message in stderr
    assert stderr.startswith(f"error: {bad}")
    assert stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_other_refusals(tmp_path: Path) -> None:
    run = made_up(tmp_path / "run", [(10e6, 0.6)])
    assert "no such run folder" in _compare(tmp_path / "none", code=2)[1]
    assert "the same run twice" in _compare(run, run, "--out", tmp_path / "out", code=2)[1]
    assert "holds something else (journal.jsonl, recipe.json)" in _compare(run, "--out", run, code=2)[1]
    (tmp_path / "file").write_text("")
    assert "can't be" in _compare(run, "--out", tmp_path / "file" / "out", code=2)[1]


def test_a_measurement_of_another_network_is_left_out(tmp_path: Path) -> None:
    run = made_up(tmp_path / "run", [(10e6, 0.6)], measured=0.002)
    weights = journal.read(run / "journal.jsonl")[-1].weights_sha256
    assert "MACs and measured latency" in _compare(run, "--out", tmp_path / "out")[0]
    measured = read_measured(run)
    assert measured is not None
    assert measured.weights_sha256 == weights
    write_measured(run, measured.model_copy(update={"weights_sha256": "0" * 64}))
    assert "measured" not in _compare(run, "--out", tmp_path / "out")[0]
