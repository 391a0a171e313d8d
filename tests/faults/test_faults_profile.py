"""A measurement that is killed, short of disk or not alone: what was measured is kept, no table is half written."""

from __future__ import annotations

import csv
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import device_tables
import faulty_runs
import growth_runs
import pytest
from typer.testing import CliRunner

from energysplit import growth
from energysplit.cli import app
from energysplit.costs.table import CostTable, TableRow
from energysplit.errors import InputError
from energysplit.measure import device_run, table_files
from energysplit.measure.kit import script_path
from energysplit.output.place import held


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    setup = growth.setup.prepare(growth_runs.tiny())
    setup.session.close()
    return device_tables.write_table(tmp_path_factory.mktemp("table"), setup.seed, widths=(3, 4))


class Stopped(BaseException):
    """Stands for a kill: nothing catches it on purpose."""


def read(folder: Path) -> tuple[TableRow, ...]:
    """Rows of the table in a folder; none if its writing has not begun or was cut short, and the error says so."""
    try:
        return CostTable.read(folder).rows
    except InputError as error:
        if "holds no latency table" in str(error) or "writes it again from what it has measured" in str(error):
            return ()
        raise


@pytest.mark.parametrize("kind", ["killed", "full"])
def test_a_table_is_the_old_one_or_the_new_one_or_none(table, tmp_path, monkeypatch, kind):
    """Whatever call is the last; a full disk, which takes nothing new, leaves the old one."""
    newer = replace(table, rows=tuple(replace(row, samples=21) for row in table.rows))
    error = OSError(errno.ENOSPC, "No space left on device") if kind == "full" else Stopped()
    seen = set()
    for last in range(200):
        table_files.write(table, tmp_path)
        calls = 0

        def dying(real, needs_space, last=last):
            def wrapped(*args, **kwargs):
                nonlocal calls
                calls += needs_space or kind == "killed"
                if calls > last:
                    raise error
                return real(*args, **kwargs)

            return wrapped

        with monkeypatch.context() as patch:
            patch.setattr(table_files, "write_text", dying(table_files.write_text, True))
            patch.setattr(os, "replace", dying(os.replace, False))
            patch.setattr(Path, "unlink", dying(Path.unlink, False))
            try:
                table_files.write(newer, tmp_path)
                break
            except (Stopped, OSError):
                pass
        found = {row.samples for row in read(tmp_path)} or {0}
        assert len(found) == 1, "a table of two moments"
        seen |= found
    assert {row.samples for row in CostTable.read(tmp_path).rows} == {21}
    assert seen >= {20} if kind == "full" else {0, 20}
    assert 21 not in seen or kind == "killed"


def test_what_measures_ends_with_whoever_started_it(tmp_path):
    """Here it waits for its plan, which never comes."""
    os.mkfifo(tmp_path / "plan.json")
    command = [sys.executable, str(script_path()), str(tmp_path), "--end-with-input"]
    script = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    assert script.poll() is None
    assert script.stdin is not None
    script.stdin.close()  # what the kernel does for a process that is killed
    assert script.wait(30) in (130, -signal.SIGTERM)


def test_rows_that_a_full_disk_takes_in_part_are_taken_back(tmp_path, processes):
    """With the kernel's own limit, in a process of its own."""
    path = tmp_path / "results.csv"
    device_run.append(str(path), [["a", "network", 0]])
    before = path.read_bytes()
    code, said = faulty_runs.Child(processes, _append_limited, str(path), len(before) + 5).end()
    assert (code, said) == (0, f"{path}: File too large\n")
    assert path.read_bytes() == before


def _append_limited(path: str, largest: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    try:
        device_run.append(path, [["b", "network", 0]])
    except OSError as error:
        print(f"{error.filename}: {error.strerror}")


def test_the_script_says_what_the_disk_refused(tmp_path, monkeypatch, capsys):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "results.csv"))

    monkeypatch.setattr(device_run, "run", full)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert device_run.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'results.csv'}: No space left on device; the same command goes on\n"


def test_a_second_measurement_into_the_same_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("energysplit.cli.profile._families", lambda *_: [])
    with held(tmp_path / "table", "the first"):
        result = CliRunner().invoke(app, ["profile", "--model", "mlp", "--out", str(tmp_path / "table")])
        assert result.exit_code == 2
        said = f"{tmp_path / 'table'} is in use by another run; wait for it, or choose another folder with --out"
        assert result.stderr == f"error: {said}\n"
    with held(tmp_path / "table", "the next"):
        pass


def rows(folder: Path) -> set[tuple[str, ...]]:
    """Rows of networks whose measurement is whole."""
    found = set()
    for path in folder.glob("measurement*/**/results.csv"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        read = [tuple(row) for row in csv.reader(lines)]
        whole = {row[0] for row in read if len(row) > 1 and row[1] == "session"}
        found |= {(path.parent.name, *row) for row in read if row[0] in whole}
    return found


@pytest.mark.timeout(7200)
def test_a_killed_measurement_goes_on(in_full, processes, tmp_path, tell):
    if not in_full:
        pytest.skip("minutes, in full with --faults; the tests above are of its parts")
    chance, folder, kills, tables = random.Random(0), tmp_path / "table", 0, 0
    kept: set[tuple[str, ...]] = set()
    while kills < 40:
        child = faulty_runs.Child(processes, faulty_runs.profile, ["--out", str(folder)])
        child.process.join(chance.uniform(0.5, 8))
        if child.process.exitcode is None:
            child.process.kill()
            kills += 1
        code, said = child.end()
        assert code in (0, -signal.SIGKILL), said
        # The script that measures may need a moment more to notice.
        time.sleep(0.5)
        now = rows(folder)
        assert kept <= now, "something that was measured is lost"
        kept = now
        tables += bool(read(folder))
        if code == 0 and chance.random() < 0.5:
            shutil.rmtree(folder)
            kept = set()
    code, said = faulty_runs.Child(processes, faulty_runs.profile, ["--out", str(folder)]).end()
    assert code == 0, said
    assert kept <= rows(folder)
    found = CostTable.read(folder)
    assert found.provenance.networks == len({row[1] for row in rows(folder) if row[0].isdigit()})
    assert not list(folder.rglob("*.onnx"))
    tell(f"{kills} kills of profile; {tables} times a whole table lay there")
