"""`energysplit experiment`: a real run in a process of its own, the list of runs, failures, Ctrl-C, exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from experiment_files import TINY, experiment_file
from typer.testing import CliRunner

from energysplit.cli import app
from energysplit.experiment.state import REPORT_FILE


def _experiment(*arguments: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["experiment", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_the_list_of_runs_writes_nothing(tmp_path: Path) -> None:
    path = experiment_file(tmp_path)
    before = _files(tmp_path)
    stdout, _ = _experiment(path, "--dry-run", "--runs", tmp_path / "runs", "--seed", 4)
    assert "Tiny: Does it run?" in stdout
    assert "2  Top k (vanilla), seed 4       2       2  grown-seed4" in stdout
    assert "2 runs of 4 epochs together at most; 1 of them are saved by sharing stage 0; 3 are left to train" in stdout
    assert _files(tmp_path) == before


def test_the_list_of_runs_says_what_is_missing(tmp_path: Path) -> None:
    path = experiment_file(tmp_path, TINY.replace('= "top_k"', '= "top_k"\n"budget.0.provider" = "latency"'))
    tables = tmp_path / "tables"
    options = ("--set", "data.root=nowhere", "--set", f"hardware.tables={tables}")
    stdout, stderr = _experiment(path, "--dry-run", "--runs", tmp_path / "runs", *options)
    assert "4 runs of 8 epochs" in stdout
    assert stderr.splitlines() == [
        "warning: data.root = 'nowhere': no such folder; name it with --set data.root=FOLDER (all runs)",
        f"warning: budget 'latency': {tables}: holds no latency table (no such folder); measure one with 'energysplit "
        f"profile --for RECIPE --out {tables}', RECIPE being what is to be grown (runs of: Top k (vanilla))",
    ]
    assert not tables.exists()


def test_a_real_run_its_results_and_nothing_left_to_do(tmp_path: Path) -> None:
    path = experiment_file(tmp_path)
    common = (path, "--runs", tmp_path / "runs", "--method", "grown", "--seed", 0, "--jobs", 1)
    stdout, stderr = _experiment(*common)
    folder = tmp_path / "runs" / "tiny-growth" / "small"
    lines = stdout.splitlines()
    assert lines[0] == f"Tiny: 1 runs, 1 at a time, in {folder}"
    assert lines[1] == "[1/1] grown, seed 0: starts"
    assert lines[2].startswith("[1/1] grown, seed 0: done in ")
    assert lines[3:] == [
        f"comparison: {folder / 'comparison' / 'compare.html'}",
        f"results: {folder / 'results.md'}",
        f"results: {folder / 'results.csv'}",
    ]
    assert stderr == ""
    assert (folder / "grown-seed0" / REPORT_FILE).is_file()
    assert "stage 1 (last: 1)" in (folder / "logs" / "grown-seed0.log").read_text()
    said = f"energysplit experiment {path} --size small --seed 0 --method grown --jobs 1 --runs {tmp_path / 'runs'}"
    assert said.replace("_", "\\_") in (folder / "results.md").read_text()

    stdout, _ = _experiment(*common, "--out", tmp_path / "out")
    assert stdout.splitlines()[1].startswith("[1/1] grown, seed 0: finished before, ")
    assert _files(tmp_path / "out") >= {"results.md", "results.csv", "comparison/compare.html"}
    stdout, _ = _experiment(*common, "--dry-run")
    assert "finished" in stdout
    assert "0 are left to train" in stdout
    _, stderr = _experiment(*common, "--set", "index.images=64", code=2)
    assert "index.images differs" in stderr


def _stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Something else in the place of Python, so that runs do what the test wants."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(file))


def test_a_failure_is_told_at_the_end_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in(monkeypatch, tmp_path, 'echo "threads $OMP_NUM_THREADS $*"; echo "error: no such data" >&2; exit 2')
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    path = experiment_file(tmp_path)
    stdout, stderr = _experiment(path, "--runs", tmp_path / "runs", "--seed", 0, "--jobs", 2, code=1)
    folder = tmp_path / "runs" / "tiny-growth" / "small"
    assert "results:" not in stdout, "there is nothing to compare"
    recipe, run = folder / "recipes" / "grown-seed0.toml", folder / "grown-seed0"
    first, command, last = stderr.splitlines()[:3]
    assert first == f"failed: grown, seed 0: exit code 2; {folder / 'logs' / 'grown-seed0.log'} ends:"
    assert command.startswith("  threads 1 -")
    assert command.endswith(f" -m energysplit grow {recipe} --run {run} --allow-code --end-with-input")
    assert last == "  error: no such data"
    assert "failed: Top k (vanilla), seed 0" in stderr
    assert f"to run what is missing: energysplit experiment {path} --size small" in stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_told_to_end_it_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    _stand_in(monkeypatch, tmp_path, f'echo $$ > "{tmp_path}/pid"; exec sleep 60')
    path = experiment_file(tmp_path)

    def tell() -> None:
        end = time.monotonic() + 20
        while not (tmp_path / "pid").exists() and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    teller = threading.Thread(target=tell)
    teller.start()
    _, stderr = _experiment(path, "--runs", tmp_path / "runs", "--jobs", 1, code=code)
    teller.join()
    assert "nothing runs any more" in stderr
    assert f"to continue: energysplit experiment {path} --size small --jobs 1" in stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_refusals(tmp_path: Path) -> None:
    path = experiment_file(tmp_path)
    assert "there is no [size.full]" in _experiment(path, "--size", "full", code=2)[1]
    assert "is not one of 'small', 'full'" in _experiment(path, "--size", "large", code=2)[1]
    assert "no such experiment file" in _experiment(tmp_path / "none.toml", code=2)[1]
    (tmp_path / "out" / "comparison").mkdir(parents=True)
    (tmp_path / "out" / "comparison" / "notes").write_text("")
    assert "holds something else" in _experiment(path, "--out", tmp_path / "out", code=2)[1]
    assert not (tmp_path / "runs").exists()
    (tmp_path / "file").write_text("")
    stderr = _experiment(path, "--runs", tmp_path / "file", code=2)[1]
    assert "can't be written: Not a directory; choose other folders with --runs" in stderr
    path.write_text(path.read_text().replace("Top k (vanilla)", "n" * 300))
    assert "expected a name of 100 characters or fewer" in _experiment(path, "--runs", tmp_path / "runs", code=2)[1]


def test_a_reader_that_leaves_early_is_no_wrong_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(text: str) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("energysplit.cli.experiment._say", gone)
    _stand_in(monkeypatch, tmp_path, "exit 0")
    assert _experiment(experiment_file(tmp_path), "--runs", tmp_path / "runs", code=141)[1] == ""
