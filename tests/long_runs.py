"""A growth of many stages on a toy network, and what the process holds: `python -m long_runs STAGES FOLDER [keep]`."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections import Counter
from pathlib import Path

import growth_runs
import torch
from torch import nn

import energysplit as es
from energysplit import growth
from energysplit.costs import registry
from energysplit.graph import Network, network
from energysplit.output.atomic import write_text
from energysplit.progress import SilentProgress
from energysplit.recipe import Recipe

COUNTED = {"tensors": torch.Tensor, "modules": nn.Module, "networks": Network, "optimisers": torch.optim.Optimizer}
CHANNELS = "long_runs_channels"


class Channels:
    """Output channels of a layer and a hundred more, so that a small factor buys a neuron or two whatever the width."""

    unit = "channel"

    def price(self, case: es.LayerCase) -> es.Cost:
        """The price of a layer."""
        return es.Cost.exact(100 + case.out_channels, self.unit, "counted")


def recipe(stages: int) -> Recipe:
    """A growth by about one neuron a stage."""
    if CHANNELS not in registry.names():
        es.register_cost(CHANNELS)(Channels)
    return growth_runs.tiny(
        train={"epochs": 1},
        growth={"stages": stages},
        index={"images": 128, "held_out_images": 128, "sweeps": 2},
        budget=[{"provider": CHANNELS, "limit": "1.004x", "scope": "stage"}],
    )


def held() -> dict[str, int]:
    """What is alive in this process, by kind, and its open files."""
    gc.collect()
    kinds = Counter(type(thing) for thing in gc.get_objects())
    counts = {name: sum(n for each, n in kinds.items() if issubclass(each, kind)) for name, kind in COUNTED.items()}
    return {**counts, "files": len(os.listdir("/proc/self/fd"))}


class Watch(SilentProgress):
    """Keeps what is alive when each stage begins, and the kibibytes of memory in use."""

    def __init__(self, keep: bool = False) -> None:
        self.alive: list[dict[str, int]] = []
        self.resident: list[int] = []
        self.kept: list[Network] | None = [] if keep else None

    def stage(self, n: int, total: int, text: str) -> None:
        """Called when a stage begins."""
        # Bounded, and filled by a growth that long: not what is looked for.
        network._resized.cache_clear()
        self.alive.append(held())
        self.resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024)
        if self.kept is not None:
            self.kept += [thing for thing in gc.get_objects() if type(thing) is Network and thing not in self.kept]


def main() -> None:
    """Grow in this process and print what it held, as JSON."""
    stages, folder, *keep = sys.argv[1:]
    growth.loop.write_report = lambda path, *_: write_text(path / "report.html", "left out")
    watch = Watch(bool(keep))
    result = growth.grow(recipe(int(stages)), run_dir=folder, progress=watch)
    widths = sum(result.records[-1].widths.values())
    print(json.dumps({"resident": watch.resident, "alive": watch.alive, "channels": widths}))


if __name__ == "__main__":
    main()
