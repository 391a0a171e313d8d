"""Places that can't be written are refused by every command before its work, in one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiment_files import experiment_file
from typer.testing import CliRunner

import energysplit.growth.loop
import energysplit.measure.wanted
import energysplit.output.onnx_export
from energysplit.cli import app

NOWHERE = "/proc/energysplit"  # not even root can make it

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, which Linux has")


def work(*_: object, **__: object) -> None:
    raise AssertionError("the work was begun")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("profile --model mlp --out NOWHERE", "choose another folder with --out"),
        ("profile --model mlp --kit /proc/kit.zip", "choose another file with --kit"),
        ("compare RUN --out NOWHERE", "name another folder with --out"),
        ("experiment FILE --out NOWHERE", "name another folder with --out"),
        ("experiment FILE --runs NOWHERE", "choose other folders with --runs"),
        ("export RUN --out /proc/model.onnx", "choose another file with --out"),
        ("allocate RUN --out /proc/allocation.json", "choose another file with --out"),
        ("grow RECIPE --run NOWHERE", "choose another run folder with --run"),
    ],
)
def test_a_place_that_cant_be_written(tiny, tmp_path, monkeypatch, command, message):
    recipe, run = tiny
    for owner, name in (
        (energysplit.measure.wanted, "family_of_model"),
        (energysplit.output.onnx_export, "export_with_parity"),
        (energysplit.growth.loop.stage, "train"),
    ):
        monkeypatch.setattr(owner, name, work)
    monkeypatch.chdir(tmp_path)
    words = {"RUN": run, "RECIPE": recipe, "FILE": experiment_file(tmp_path), "NOWHERE": NOWHERE}
    arguments = [str(words.get(word, word)) for word in command.split()]
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: /proc")
    assert "can't be written: " in result.stderr
    assert result.stderr.endswith(f"; {message}\n")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", ["report", "frontier"])
def test_a_run_folder_that_cant_be_written(tiny, monkeypatch, command):
    """As on a disk mounted to be read only."""
    from energysplit.allocation import frontier
    from energysplit.output import place, report

    def read_only(dir: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(frontier, "frontier", work)
    monkeypatch.setattr(report, "write_report", work)
    monkeypatch.setattr(place.tempfile, "TemporaryFile", read_only)
    result = CliRunner().invoke(app, [command, str(tiny[1])])
    assert result.exit_code == 2, result.output
    assert (
        f"can't be written: Read-only file system; {'the report is' if command == 'report' else 'its figures are'}"
        in (result.stderr)
    )


def test_export_writes_over_no_folder_and_no_device(tiny, tmp_path):
    for out, what in ((tmp_path, "is a folder"), (Path("/dev/null"), "is no file")):
        result = CliRunner().invoke(app, ["export", str(tiny[1]), "--out", str(out)])
        assert (result.exit_code, result.stderr) == (2, f"error: --out {out}: {what}; expected the name of a file\n")
