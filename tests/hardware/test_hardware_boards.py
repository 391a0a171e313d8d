"""What the boards' profiles rest on: the comparison of energy models with one network left out."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from energysplit import hardware
from energysplit.errors import InputError
from energysplit.hardware import Measurement, Number

BOARDS = ("stm32l4r5", "stm32u575", "stm32h7a3", "efr32xg24", "gap9", "ndp9120")
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def imported(name: str) -> ModuleType:
    """A module of benchmarks/."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """benchmarks/energy_prediction.py."""
    return imported("energy_prediction")


@pytest.fixture(scope="module")
def fitting() -> ModuleType:
    """benchmarks/energy_per_mac.py."""
    return imported("energy_per_mac")


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_s_energy_per_mac_is_the_fit_to_its_own_networks(fitting: ModuleType, name: str) -> None:
    profile = hardware.load(name)
    found = fitting.energy_per_mac(fitting.same_setup(profile.measured))
    stated = profile.arithmetic("int8").energy
    assert stated is not None
    assert stated.value == pytest.approx(found.value, rel=1e-3)
    assert stated.low <= found.low <= found.high <= stated.high
    assert stated.source.startswith("estimated: fitted to")
    assert profile.arithmetic("int8").memory_included


def test_published_numbers_are_as_in_the_table(fitting: ModuleType) -> None:
    """Spot checks, microjoules and picojoules per MAC, against the published table."""
    l4r5 = hardware.load("stm32l4r5").measured
    assert [round(one.energy.value * 1e6, 1) for one in fitting.same_setup(l4r5)] == [160.4, 1430.7, 3029.8, 5495.9]
    assert [round(one.energy.value / one.macs * 1e12) for one in fitting.same_setup(l4r5)] == [607, 539, 405, 440]
    gap9 = hardware.load("gap9").measured
    assert [round(one.energy.value * 1e6, 2) for one in gap9[4:]] == [7.29, 26.66, 58.36, 40.36]


def test_energy_per_mac_errs_least_over_the_networks(fitting: ModuleType) -> None:
    """Against a search over the whole interval."""
    measured = [
        Measurement(
            network=str(macs),
            macs=macs,
            energy=Number(value=joules, low=joules, high=joules, unit="J", source="measured: by a test"),
            runtime="a",
        )
        for macs, joules in ((1000, 5e-9), (4000, 12e-9), (9000, 9e-9))
    ]
    found = fitting.energy_per_mac(measured)
    assert (found.low, found.high) == (pytest.approx(1e-12), pytest.approx(5e-12))
    each = [one.energy.value / one.macs for one in measured]
    tried = [found.low + (found.high - found.low) * step / 20_000 for step in range(20_001)]
    best = min(tried, key=lambda value: sum((value / joules - 1) ** 2 for joules in each))
    assert found.value == pytest.approx(best, rel=1e-3)
    with pytest.raises(InputError, match="no measured networks"):
        fitting.energy_per_mac([])


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
