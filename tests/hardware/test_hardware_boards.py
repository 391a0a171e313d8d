"""What the boards' profiles rest on: the comparison of energy models with one network left out."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """benchmarks/energy_prediction.py."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("energy_prediction")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("fit", ["own", "shared"])
def test_a_prediction_never_sees_the_network_it_is_for(benchmark: ModuleType, fit: str) -> None:
    predict, names = getattr(benchmark, fit), ("macs", "layers")
    energies = benchmark.boards()
    changed = {board: {name: joules * (9 if name == "KWS" else 1) for name, joules in measured.items()}
               for board, measured in energies.items()}  # fmt: skip
    assert predict(energies, names, "KWS") == predict(changed, names, "KWS")
    assert predict(energies, names, "IC") != predict(changed, names, "IC")


@pytest.mark.parametrize("fit", ["own", "shared"])
def test_energies_that_follow_a_model_are_predicted_exactly(benchmark: ModuleType, fit: str) -> None:
    names = ("macs", "layers")
    made = {
        board: {
            name: scale * (2e-12 * benchmark.features(name)["macs"] + 3e-8 * benchmark.features(name)["layers"])
            for name in benchmark.NETWORKS
        }
        for board, scale in (("a", 1.0), ("b", 5.0))
    }
    for name in benchmark.NETWORKS:
        predicted = getattr(benchmark, fit)(made, names, name)
        assert predicted == pytest.approx({board: measured[name] for board, measured in made.items()}, rel=1e-6)


def test_no_model_beats_energy_per_mac_over_all_boards(benchmark: ModuleType) -> None:
    """Why the boards' profiles have one number: if this fails, they should say more."""
    energies = benchmark.boards()

    def error(model: str, fit: str) -> float:
        found = benchmark.errors(energies, benchmark.MODELS[model], getattr(benchmark, fit))
        return sum(map(abs, found.values())) / len(found)

    least = error("energy per MAC", "own")
    assert least == pytest.approx(0.42, abs=0.01)
    for model in benchmark.MODELS:
        assert error(model, "own") >= least, model
        assert error(model, "shared") >= least - 1e-9, model


def test_the_stored_table_is_today_s(benchmark: ModuleType) -> None:
    stored = (BENCHMARKS / "results" / "energy_prediction.md").read_text()
    assert "\n".join(benchmark.report(benchmark.boards())) + "\n" == stored, "run benchmarks/energy_prediction.py --out"
