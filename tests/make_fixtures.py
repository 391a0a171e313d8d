"""Writes the files that later versions must be able to read: `python tests/make_fixtures.py`.

They are kept in `tests/fixtures/VERSION`, one folder a version, and never changed: a folder that is there is refused.
`tests/faults/test_faults_compatibility.py` reads each of them for ever. Made anew only when the version number is:
everything is trained and measured here, in under a minute, on whatever machine this is.

    recipes/, experiments/   as shipped, beside `resolved.json` and `runs.json`: what they said
    hardware_profiles/       as shipped
    cost_tables/made_up/     a latency table with its provenance; its prices follow a formula
    kit/results.csv          what a kit measured on this machine, in as few samples as a kit takes
    runs/                    finished run folders of each kind without reports and figures, and one in the midst of it
    predictions.json         what their networks put out for `image()`, and what the table says
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import device_tables
import growth_runs
import torch
from torch import Tensor

import energysplit as es
from energysplit import growth, models
from energysplit.experiment.load import load_experiment
from energysplit.experiment.plan import make_plan
from energysplit.experiment.schema import SIZES
from energysplit.progress import SilentProgress
from energysplit.recipe import load

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = Path(__file__).with_name("fixtures")
SMALL_DATA = {"name": "digits", "limit": 600}
RUNS: dict[str, dict[str, Any]] = {
    "grown": {"export": {"onnx": True}},
    "signed": {"growth": {"stages": 1, "signed": True, "mass": 2.0}},
    "outgoing": {"growth": {"stages": 1}, "index": {"linear": "outgoing"}},
    "averaged": {
        "growth": {"stages": 1},
        "train": {
            "epochs": 4, "accumulate": 2, "ema": 0.9, "patience": 1, "min_improvement": 0.5,
            "teacher": {"run": "runs/grown", "weight": 0.5, "temperature": 4.0},
        },
    },
    "width_multiplier": {"baseline": {"kind": "width_multiplier", "sizes_of": "runs/grown"}},
    "pruned": {"baseline": {"kind": "prune_l1", "sizes_of": "runs/grown"}},
    "priced": {
        "growth": {"stages": 1},
        "hardware": {"tables": "cost_tables/made_up"},
        "report": {"providers": ["latency", "macs", "params"]},
        "export": {"onnx": False, "measure": False},
    },
}  # fmt: skip
"""Run folder -> what differs from `growth_runs.tiny`. "unfinished" is "grown", stopped after an epoch of stage 1."""


def image() -> Tensor:
    """Two inputs for every network, the same in every version of torch."""
    return torch.linspace(-2, 2, 128).reshape(2, 1, 8, 8)


class Stopped(Exception):
    """Ends a growth in the midst of it."""


class UntilStage1(SilentProgress):
    """Stops a growth when the first epoch of stage 1 is saved."""

    def task(self, name: str, total: int) -> Any:
        """The task, of which only that of stage 1's training stops anything."""
        return contextlib.nullcontext(_Stopping()) if name == "train stage 1" else super().task(name, total)


class _Stopping:
    def advance(self, n: int = 1, **_: float) -> None:
        if n:
            raise Stopped


def _runs() -> dict[str, list[list[float]]]:
    """Grows every run into `runs/`; the outputs of their last stages."""
    growth.loop.write_report = lambda path, *_: path / "report.html"  # as large as everything else together
    outputs = {}
    for name, changed in RUNS.items():
        growth.grow(growth_runs.tiny(name=name, **{"data": SMALL_DATA, **changed}), run_dir=f"runs/{name}")
        last = max(Path("runs", name, "stages").iterdir(), key=lambda stage: int(stage.name))
        net = es.load(last)
        with torch.no_grad():
            outputs[name] = net.module.eval()(image()).tolist()
    with contextlib.suppress(Stopped):
        recipe = growth_runs.tiny(name="unfinished", data=SMALL_DATA)
        growth.grow(recipe, run_dir="runs/unfinished", progress=UntilStage1())
    return outputs


def _table() -> dict[str, float]:
    """Writes the made-up cost table; the price of a network by it."""
    net = es.trace(models.build("cnn", widths=[3, 4], in_channels=1, activation="silu"), image()[:1])
    device_tables.write_table(
        Path("cost_tables/made_up"), net, tuple(range(3, 25)), machine="a made-up machine", runtime_version="1.0"
    )
    cost = es.price(net, es.cost_provider("latency", tables="cost_tables/made_up"))
    return {"value": cost.value, "low": cost.low, "high": cost.high}


def _kit() -> None:
    """Runs a kit of a dozen networks here and keeps its results."""
    with tempfile.TemporaryDirectory() as folder:
        kit = Path(folder) / "kit.zip"
        given = ["profile", "--model", "mlp", "--widths", "0.25,1", "--networks", "12", "--kit", str(kit)]
        subprocess.run([sys.executable, "-m", "energysplit", *given], check=True)
        zipfile.ZipFile(kit).extractall(folder)
        plan = Path(folder, "kit", "plan.json")
        plan.write_text(re.sub(r'"rounds": *\d+', '"rounds": 3', plan.read_text()))
        subprocess.run([sys.executable, "device_run.py", "."], cwd=plan.parent, check=True)
        results = plan.with_name("results.csv").read_text()
    Path("kit").mkdir()
    Path("kit/results.csv").write_text(re.sub(r"# system=.*", "# system=Linux", results))


def _shipped() -> None:
    """Copies what is shipped, and writes what recipes and experiments of it say today."""
    for name in ("recipes", "experiments", "hardware_profiles"):
        Path(name).mkdir()
        for file in sorted((ROOT / name).glob("*.toml")):
            shutil.copyfile(file, Path(name, file.name))
    resolved = {file.name: load(file).resolved() for file in sorted(Path("recipes").glob("*.toml"))}
    _write("recipes/resolved.json", resolved)
    runs = {}
    for file in sorted(Path("experiments").glob("*.toml")):
        experiment = load_experiment(file)
        sizes = [size for size in SIZES if experiment.table(size) and experiment.methods(size)]
        runs[file.name] = {size: [run.name for run in make_plan(file, size).runs] for size in sizes}
    _write("experiments/runs.json", runs)


def _write(path: str, content: Any) -> None:
    Path(path).write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Write the folder of this version."""
    folder = FIXTURES / metadata.version("energysplit")
    if folder.exists():
        sys.exit(f"{folder} is there: what a version wrote is not changed; raise the version number first")
    folder.mkdir(parents=True)
    os.chdir(folder)
    _shipped()
    price = _table()
    _kit()
    _write("predictions.json", {"latency": price, "outputs": _runs()})
    for lock in Path("runs").glob("*/.lock"):
        lock.unlink()


if __name__ == "__main__":
    main()
