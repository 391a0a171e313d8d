"""Energy of a network that was left out, predicted from the others on the same device: MLPerf Tiny's boards.

    python benchmarks/energy_prediction.py [--out benchmarks/results]

Each board ran the four reference networks (the NDP9120 three). Each network in turn is left out, a model is fitted to
the others, and predicts the one left out. Models are sums of counted features times coefficients >= 0, fitted by
non-negative least squares on relative errors: with coefficients of each board's own, or with coefficients shared by
all boards and one scale for each board. Energies are those of `energysplit/hardware/profiles`; nothing is measured
here.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

import numpy as np
from scipy.optimize import nnls
from tiny_networks import KINDS, NETWORKS, kind

from energysplit import hardware
from energysplit.costs.traffic import traffic
from energysplit.hardware.schema import HardwareProfile

MODELS = {
    "energy per MAC": ("macs",),
    "MACs + bytes": ("macs", "bytes"),
    "MACs + bytes of weights + bytes of maps": ("macs", "weights", "maps"),
    "MACs + once an inference": ("macs", "inferences"),
    "MACs + once a layer": ("macs", "layers"),
    "MACs + bytes + once a layer": ("macs", "bytes", "layers"),
    "MACs, depthwise apart": ("macs", "depthwise"),
    "MACs of each class of layer": KINDS,
}
ROUNDS = 300

Energies = dict[str, dict[str, float]]  # board -> network -> J


def main() -> None:
    """Fit, predict and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for the table")
    options = parser.parse_args()
    text = "\n".join(report(boards())) + "\n"
    print(text)
    if options.out:
        (options.out / "energy_prediction.md").write_text(text)


def boards() -> Energies:
    """Joules an inference of each network, by board and setup; setups with one network only are left out."""
    found: Energies = {}
    for name in hardware.built_in():
        profile = hardware.load(name)
        for row, energies in setups(profile).items():
            if len(energies) > 2:
                found[row] = energies
    return found


def setups(profile: HardwareProfile) -> Energies:
    """Joules an inference of each network, by software, voltage and clock of one device."""
    found: Energies = {}
    for one in profile.measured:
        found.setdefault(f"{profile.name}, {one.setup or one.runtime}", {})[one.network.split()[0]] = one.energy.value
    return found


@cache
def features(network: str) -> dict[str, float]:
    """What is counted of a network: MACs of its layers, in all and by class, bytes (int8), layers."""
    cases = NETWORKS[network]
    moved = [traffic(case) for case in cases]
    counted: dict[str, float] = {
        "macs": sum(m.macs for m, case in zip(moved, cases, strict=True) if kind(case)),
        "weights": sum(m.weights for m in moved),
        "maps": sum(m.inputs + m.outputs for m in moved),
        "bytes": sum(m.elements for m in moved),
        "layers": len(cases),
        "inferences": 1,
    }
    for word in KINDS:
        counted[word] = sum(m.macs for m, case in zip(moved, cases, strict=True) if kind(case) == word)
    return counted


def own(energies: Energies, names: tuple[str, ...], left_out: str) -> dict[str, float]:
    """Board -> predicted joules of the network left out, coefficients of its own for each board."""
    predicted = {}
    for board, measured in energies.items():
        if left_out in measured:
            rows = [vector(names, other) / joules for other, joules in measured.items() if other != left_out]
            predicted[board] = float(vector(names, left_out) @ non_negative(np.array(rows)))
    return predicted


def shared(energies: Energies, names: tuple[str, ...], left_out: str) -> dict[str, float]:
    """Board -> predicted joules of the network left out: coefficients shared, one scale a board, fitted in turns."""
    known = {
        board: {name: joules for name, joules in measured.items() if name != left_out}
        for board, measured in energies.items()
    }
    scales = {
        board: float(np.mean([joules / features(name)["macs"] for name, joules in measured.items()]))
        for board, measured in known.items()
    }
    coefficients = np.zeros(len(names))
    for _ in range(ROUNDS):
        rows = [
            scales[board] * vector(names, name) / joules
            for board, measured in known.items()
            for name, joules in measured.items()
        ]
        coefficients = non_negative(np.array(rows))
        for board, measured in known.items():
            ratios = np.array([vector(names, name) @ coefficients / joules for name, joules in measured.items()])
            scales[board] = float(ratios.sum() / (ratios @ ratios))
    return {
        board: scales[board] * float(vector(names, left_out) @ coefficients)
        for board, measured in energies.items()
        if left_out in measured
    }


def vector(names: tuple[str, ...], network: str) -> np.ndarray:
    """The features of a network, in the order of `names`."""
    counted = features(network)
    return np.array([counted[name] for name in names])


def non_negative(rows: np.ndarray) -> np.ndarray:
    """Coefficients >= 0 whose products with the rows are nearest to 1; columns are scaled for the solver's sake."""
    scale = np.abs(rows).max(axis=0)
    scale[scale == 0] = 1
    return nnls(rows / scale, np.ones(len(rows)))[0] / scale


def errors(energies: Energies, names: tuple[str, ...], fit: object) -> dict[tuple[str, str], float]:
    """(board, network) -> relative error of the prediction for the network left out."""
    found = {}
    for left_out in NETWORKS:
        for board, joules in fit(energies, names, left_out).items():  # type: ignore[operator]
            found[board, left_out] = joules / energies[board][left_out] - 1
    return found


def report(energies: Energies) -> list[str]:
    """The tables, in Markdown."""
    found = {
        (model, way): errors(energies, names, fit)
        for model, names in MODELS.items()
        for way, fit in (("own", own), ("shared", shared))
        if not (way == "shared" and len(names) == 1)  # one coefficient is one scale
    }
    lines = [
        "# Energy of a network left out, MLPerf Tiny boards",
        "",
        "Mean absolute error in percent. Fitted to the board's other networks (own), or to all boards' other networks "
        "with one scale a board (shared). Energies were measured by the submitters; see the hardware profiles.",
        "",
        "Networks: " + ", ".join(f"{name} {features(name)['macs']:,} MACs" for name in NETWORKS) + ".",
        "",
        "| model | coefficients | all | " + " | ".join(f"{n} left out" for n in NETWORKS) + " | "
        + " | ".join(energies) + " |",
        "| --- | --- |" + " --- |" * (1 + len(NETWORKS) + len(energies)),
    ]  # fmt: skip
    for (model, way), each in found.items():
        cells = [mean(each.values())]
        cells += [mean(error for (_, network), error in each.items() if network == name) for name in NETWORKS]
        cells += [mean(error for (board, _), error in each.items() if board == name) for name in energies]
        lines.append(f"| {model} | {way} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Where a class of layer hardly occurs in the other networks (linear layers, with AD left out), its coefficient "
        "is not determined by them, and the prediction is worthless: these are the errors of thousands of percent.",
    ]
    best = min(found, key=lambda key: float(np.mean(np.abs(list(found[key].values())))))
    lines += [
        "",
        f"Least over all: **{best[0]}** ({best[1]}), {mean(found[best].values())} %. Its errors, with their sign, in "
        "percent, and (in brackets) whether the truth lies in the interval a profile would state: between the least "
        "and the most energy per MAC of the other networks.",
        "",
        "| board | " + " | ".join(f"{n} left out" for n in NETWORKS) + " |",
        "| --- |" + " --- |" * len(NETWORKS),
    ]
    for board, measured in energies.items():
        per_mac = {name: joules / features(name)["macs"] for name, joules in measured.items()}
        cells = []
        for name in NETWORKS:
            if name not in measured:
                cells.append("not run")
                continue
            others = [joules for other, joules in per_mac.items() if other != name]
            inside = "in" if min(others) <= per_mac[name] <= max(others) else "out"
            cells.append(f"{100 * found[best][board, name]:+.0f} ({inside})")
        lines.append(f"| {board} | " + " | ".join(cells) + " |")
    return lines


def mean(values: object) -> str:
    """Mean absolute value in percent."""
    return f"{100 * float(np.mean(np.abs(list(values)))):,.0f}"  # type: ignore[call-overload]


if __name__ == "__main__":
    main()
