"""An experiment killed at any moment leaves no process behind, and the same command goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import growth_runs
import pytest
from experiment_files import experiment_file

from energysplit.experiment.processes import GroupProcess

COMMAND = [sys.executable, "-m", "energysplit", "experiment"]
LONGEST_S = 60.0


def running(folder: Path) -> dict[int, str]:
    """Process -> command of those that were given something in a folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().replace("\0", " ")
        except OSError:  # it has ended
            continue
        if str(folder) in words and int(process.name) != os.getpid():
            found[int(process.name)] = words
    return found


def wait_for(condition) -> None:
    end = time.monotonic() + LONGEST_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc, which Linux has")


@needs_proc
@pytest.mark.timeout(7200)
def test_a_killed_experiment_leaves_nothing_and_goes_on(in_full, tmp_path, tell):
    if not in_full:
        pytest.skip("minutes, in full with --faults; the tests below are of its parts")
    chance, kills, left = random.Random(0), 0, 0
    path, runs = experiment_file(tmp_path), tmp_path / "runs"
    command = [*COMMAND, str(path), "--runs", str(runs), "--jobs", "2"]
    while kills < 20:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert process.wait(chance.uniform(1, 15)) == 0
            shutil.rmtree(runs)  # it was finished: anew
        except subprocess.TimeoutExpired:
            left += any(" grow " in words for words in running(runs).values())
            process.kill()
            process.wait()
            kills += 1
            wait_for(lambda: not running(runs))
    assert left >= 5, "hardly a kill came while a run was on its way"
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    undisturbed = [*COMMAND, str(path), "--runs", str(tmp_path / "undisturbed"), "--jobs", "2"]
    assert subprocess.run(undisturbed, cwd=tmp_path, capture_output=True).returncode == 0
    for reference in (tmp_path / "undisturbed" / "tiny-growth" / "small").glob("*-seed*"):
        folder = runs / "tiny-growth" / "small" / reference.name
        assert growth_runs.journal(folder) == growth_runs.journal(reference)
        assert growth_runs.files(folder) == growth_runs.files(reference)
    tell(f"{kills} kills of an experiment, {left} while runs were on their way; none outlived it")


FOLLOWER = """
import time
from energysplit.cli.processes import follow_input
follow_input()
print("follows", flush=True)
time.sleep(60)
"""


def test_a_run_ends_with_the_process_that_started_it(tmp_path):
    log = tmp_path / "log"
    follower = GroupProcess([sys.executable, "-c", FOLLOWER], log, dict(os.environ))
    wait_for(lambda: "follows" in log.read_text())
    time.sleep(0.1)
    assert follower.poll() is None, "it runs while its starter does"
    follower._process.stdin.close()  # what the kernel does for a process that is killed
    wait_for(lambda: follower.poll() is not None)
    assert follower.poll() == -signal.SIGTERM
    assert log.read_text().splitlines()[-1].startswith("ended: the process that started this run is gone")


def test_a_full_disk_ends_an_experiment_with_the_command_that_goes_on(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from energysplit.cli import app
    from energysplit.experiment import runner

    def full(path: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(runner, "write_recipe", full)
    path = experiment_file(tmp_path)
    result = CliRunner().invoke(app, ["experiment", str(path), "--runs", str(tmp_path / "runs")])
    assert result.exit_code == 2
    recipe = tmp_path / "runs" / "tiny-growth" / "small" / "recipes" / "grown-seed0.toml"
    assert result.stderr.startswith(f"error: {recipe}: No space left on device; free some space there, then go on: ")
    assert (
        f"energysplit experiment {path} --size small --runs {tmp_path / 'runs'}. Nothing runs any more" in result.stderr
    )
