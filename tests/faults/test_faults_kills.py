"""A growth killed at any moment and resumed ends like an undisturbed one, bit for bit."""

from __future__ import annotations

import collections
import itertools
import random
import signal
import time
from pathlib import Path

import device_tables
import faulty_runs
import growth_runs
import pytest

from energysplit import growth
from energysplit.experiment.recipe_file import write_recipe
from energysplit.output.measured import MEASURED_FILE

AIMS = (
    "train",
    "checkpoint",
    "allocate",
    "index",
    "train",
    "surgery",
    None,
    "checkpoint",
    None,
    "export",
    "measure",
    "report",
)
"""Phases a kill waits for in turn; None: any moment."""

NAMED = ("train", "index", "allocate", "surgery", "checkpoint", "export")


def assert_same(folder: Path, reference: Path) -> None:
    """Journal, widths (they are in it), weights, optimiser and indices; and nothing half-written lies about."""
    assert growth_runs.journal(folder) == growth_runs.journal(reference)
    assert growth_runs.files(folder) == growth_runs.files(reference)
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
        path.name for path in reference.iterdir() if not path.name.startswith(".")
    }
    leftovers = [p.name for p in folder.rglob(".*") if p.name != ".lock" and not p.name.endswith(".partial")]
    assert leftovers == []


def variants(folder: Path) -> dict[str, Path]:
    """Recipes by name: with export, measurement, averaged weights and curves; signed; fresh neurons; branching; a
    baseline."""
    setup = growth.setup.prepare(growth_runs.tiny())
    setup.session.close()
    device_tables.write_table(folder / "tables", setup.seed)
    short = {"epochs": 1}
    found = {
        "plain": growth_runs.tiny(train=short, growth={"stages": 1}),
        "everything": growth_runs.tiny(
            train={**short, "ema": 0.9, "patience": 3},
            budget=[{"provider": "latency", "limit": "1.1x", "scope": "stage"}],
            growth={"stages": 1},
            export={"onnx": True},
            hardware={"tables": str(folder / "tables")},
        ),
        "signed": growth_runs.tiny(train=short, growth={"signed": True, "mass": 2.0}, index={"held_out_images": 256}),
        "fresh": growth_runs.tiny(train=short, index={"method": "fresh"}),
        "branching": growth_runs.tiny(
            train=short,
            model={
                "name": "resnet_cifar",
                "args": {"blocks": [1, 1], "trunk": [2, 3], "hidden": [2, 3], "in_channels": 1},
            },
            growth={"stages": 1},
        ),
        "baseline": growth_runs.tiny(
            train=short, growth={"stages": 1}, baseline={"kind": "morphnet", "sizes_of": str(folder / "plain")}
        ),
    }
    return {name: write_recipe(folder / f"{name}.toml", recipe) for name, recipe in found.items()}


def kill(processes, recipe: Path, folder: Path, aim: str | None, chance: random.Random) -> str | None:
    """The phase in which a growth, begun or resumed, was killed; None if it ended before."""
    now = processes.Value("i", 0, lock=False)
    arguments = ["grow", str(recipe), "--run", str(folder), "--resume", "--quiet"]
    child = faulty_runs.Child(processes, faulty_runs.noting, now, arguments)
    if aim is None:
        child.process.join(chance.uniform(0.02, 3))
    else:
        while child.process.exitcode is None and faulty_runs.PHASES[now.value] != aim:
            time.sleep(0.0002)
        child.process.join(10 ** chance.uniform(-3.5, -0.7))
    if child.process.exitcode is None:
        child.process.kill()
    code, said = child.end()
    assert code in (0, -signal.SIGKILL), said
    return faulty_runs.PHASES[now.value] if code else None


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("name", "kills"),
    [("plain", 40), ("everything", 60), ("signed", 25), ("fresh", 25), ("branching", 25), ("baseline", 25)],
)
def test_kill_9_at_random_moments(in_full, processes, run_command, tmp_path, tell, name, kills):
    """Killed and resumed until it has had its kills, several runs if need be; each ends like the undisturbed one."""
    if not in_full and name != "plain":
        pytest.skip("one of six recipes, in full with --faults")
    chance, recipes = random.Random(name), variants(tmp_path)
    reference = tmp_path / name
    for each in dict.fromkeys(("plain", name) if name == "baseline" else (name,)):
        code, said = run_command("grow", recipes[each], "--run", tmp_path / each)
        assert code == 0, said
    assert (reference / MEASURED_FILE).exists() == (name == "everything")
    hit: collections.Counter[str] = collections.Counter()
    aims, ended = itertools.cycle(AIMS), 0
    kills = kills if in_full else 4

    def missed() -> list[str]:
        """Phases that have had less than two kills."""
        return [phase for phase in NAMED if hit[phase] < 2] if name == "everything" else []

    def wanted() -> bool:
        """Whether more kills are: at most twice as many, where a phase is so short that it was missed."""
        return hit.total() < (2 * kills if missed() else kills)

    def aim() -> str | None:
        """What is to be killed next: once all kills are made, only what was missed."""
        return next(aims) if hit.total() < kills else chance.choice(missed())

    while wanted():
        folder = tmp_path / f"{name} {ended}"
        while wanted() and (phase := kill(processes, recipes[name], folder, aim(), chance)):
            hit[phase] += 1
        code, said = run_command("grow", recipes[name], "--run", folder, "--resume")
        assert code == 0, said
        assert_same(folder, reference)
        ended += 1
    tell(f"{hit.total()} kills, {ended} runs resumed to their end; by phase: {dict(hit)}")
    assert missed() == []


@pytest.mark.parametrize("fault", [faulty_runs.die_at, faulty_runs.lose_power_at], ids=["killed", "power lost"])
def test_death_at_every_few_file_operations(in_full, processes, tiny, tmp_path, fault, tell):
    """Each attempt dies a few file operations later than the one before; with the power, unflushed files are cut."""
    recipe, reference = tiny
    deaths = 0
    for first in range(20 if in_full else 1):
        folder = tmp_path / f"run {first}"
        chance = random.Random(first)
        codes = []
        while not codes or codes[-1] == faulty_runs.DIED:
            arguments = ["grow", str(recipe), "--run", str(folder), "--resume"]
            child = faulty_runs.Child(processes, fault, str(folder), chance.randint(1, 120), arguments)
            code, said = child.end()
            codes.append(code)
            assert code in (0, faulty_runs.DIED), said
        assert len(codes) > 1
        deaths += len(codes) - 1
        assert_same(folder, reference)
    tell(f"{deaths} deaths in {first + 1} runs, each then like the undisturbed one")


@pytest.mark.parametrize("operation", range(1, 13))
def test_death_while_the_folder_is_made(in_full, processes, run_command, tiny, tmp_path, operation):
    """The first file operations: folder, lock, recipe, environment."""
    if not in_full and operation % 6:
        pytest.skip("one of twelve operations, in full with --faults")
    recipe, reference = tiny
    folder = tmp_path / "run"
    arguments = ["grow", str(recipe), "--run", str(folder)]
    assert faulty_runs.Child(processes, faulty_runs.die_at, str(folder), operation, arguments).end()[0] == 137
    code, said = run_command(*arguments, "--resume")
    assert code == 0, said
    assert_same(folder, reference)
