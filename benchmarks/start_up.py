"""How long a user waits: for the command line, and for a network to be split and priced again.

    python benchmarks/start_up.py [--repeats 7] [--out benchmarks/results]

Processes are started afresh, in turns: an empty Python and `energysplit --help`, an import of torch and the dry run of
the smallest recipe, which needs torch too. Seconds are those a user waits; processor seconds leave out what a busy
machine does besides.

Surgery splits a quarter to half of the neurons of every group of torchvision's MobileNetV2; re-pricing asks five
providers what the wider network costs. Beside them a deep copy of the module, which surgery can't do without: it leaves
the network that it was given as it is.
"""

from __future__ import annotations

import copy
import itertools
import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import Call, begin, command, conditions, interleaved, ratio, timing_parser, write

import energysplit as es
from energysplit.models import build

ROOT = Path(__file__).parents[1]
PROCESSES = {
    "python -c pass": ["-c", "pass"],
    "energysplit --help": ["-m", "energysplit", "--help"],
    "python -c 'import torch'": ["-c", "import torch"],
    "energysplit grow recipes/digits.toml --dry-run": [
        *("-m", "energysplit", "grow", str(ROOT / "recipes" / "digits.toml"), "--dry-run")
    ],
}
PROVIDERS = (
    es.cost_provider("macs"),
    es.cost_provider("params"),
    es.cost_provider("peak_memory"),
    es.cost_provider("roofline", profile="x86_avx512_2core"),
    es.cost_provider("energy", profile="generic_45nm"),
)
BARS_S = {
    "energysplit --help": 0.5,
    "energysplit grow recipes/digits.toml --dry-run": 6.0,
    "surgery and re-pricing": 1.0,
}


def main() -> None:
    """Measure all and write a table."""
    options = timing_parser(__doc__, repeats=7).parse_args()
    device = begin(options)
    # Processes start on the CPU, whatever the device is.
    started, worked = fresh_processes(options.repeats, options.threads)
    called = interleaved(surgery(device), options.repeats, device)
    rows = [
        row("energysplit --help", started, "python -c pass", worked),
        row("energysplit grow recipes/digits.toml --dry-run", started, "python -c 'import torch'", worked),
        row("surgery and re-pricing", called, "deep copy"),
        row("surgery", called, "deep copy"),
    ]
    lines = [
        "# Start-up, surgery and re-pricing",
        "",
        f"{command()}. {conditions(options)} Seconds with quartiles; ratios with 95 % intervals.",
        "",
        "| what | seconds | processor seconds | beside | seconds of that | ratio | bar, seconds | kept |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
    ]
    samples = [{"seconds": {**started, **called}, "processor_seconds": worked}]
    write(options, "start_up", lines, samples)


def fresh_processes(repeats: int, threads: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds and processor seconds of each process, by what a user would type."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    worked: dict[str, list[float]] = {name: [] for name in PROCESSES}

    def start(name: str) -> None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        arguments = [sys.executable, *PROCESSES[name]]
        subprocess.run(arguments, env=environment, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        worked[name].append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)

    calls: dict[str, Call] = {name: partial(start, name) for name in PROCESSES}
    seconds = interleaved(calls, repeats, torch.device("cpu"))
    return seconds, {name: found[1:] for name, found in worked.items()}  # without the warm-up


def surgery(device: torch.device) -> dict[str, Call]:
    """Splitting, pricing the wider network, both, and a deep copy of the module.

    Every call comes to other widths, so that no price is one remembered from the call before.
    """
    torch.manual_seed(0)
    net = es.trace(build("torchvision:mobilenet_v2"), torch.zeros(1, 3, 224, 224))
    net.module.to(device)
    groups = {name: group for name, group in net.groups.items() if group.splittable}
    directions = {
        name: {producer: torch.randn_like(net.weight(producer)) for producer in group.movers}
        for name, group in groups.items()
    }

    turns = itertools.count()

    def split() -> es.Network:
        turn = next(turns)
        chosen = {name: range(count + turn % count) for name, group in groups.items() if (count := group.channels // 4)}
        return es.split(net, chosen, directions, step=0.01)

    def prices(net: es.Network) -> list[es.Cost]:
        return [es.price(net, provider) for provider in PROVIDERS]

    return {
        "surgery and re-pricing": lambda: prices(split()),
        "surgery": split,
        "deep copy": lambda: copy.deepcopy(net.module),
    }


def row(name: str, seconds: dict[str, list[float]], beside: str, worked: dict[str, list[float]] | None = None) -> str:
    """A line of the table."""
    bar: Any = BARS_S.get(name, "-")
    kept = "-" if bar == "-" else "yes" if np.median(seconds[name]) <= bar else "no"
    processor = in_seconds(worked[name]) if worked else "-"
    return (
        f"| {name} | {in_seconds(seconds[name])} | {processor} | {beside} | {in_seconds(seconds[beside])} "
        f"| {ratio(seconds[name], seconds[beside])} | {bar} | {kept} |"
    )


def in_seconds(samples: list[float]) -> str:
    """Median and quartiles."""
    low, median, high = np.quantile(samples, [0.25, 0.5, 0.75])
    return f"{median:.3g} ({low:.3g}-{high:.3g})"


if __name__ == "__main__":
    main()
