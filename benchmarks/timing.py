"""Seconds and bytes for the benchmark scripts: several ways of doing a thing, measured in turns in one process.

A claim is a ratio of two medians whose samples were taken in turns (A B A B ...), so that what slows the machine down
slows both. Calls on CUDA are waited for before the clock stops.
"""

from __future__ import annotations

import argparse
import gc
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]

RESAMPLES = 10_000


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians and the ends of its 95 % interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def timing_parser(description: str | None, repeats: int) -> argparse.ArgumentParser:
    """`--repeats`, `--threads`, `--device` and `--out`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--repeats", type=int, default=repeats, help="samples of each time")
    made.add_argument("--threads", type=int, default=1, help="of torch, on the CPU")
    made.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    made.add_argument("--out", type=Path, help="folder for the table and the samples")
    return made


def begin(options: argparse.Namespace) -> torch.device:
    """The device asked for, with torch set to as many threads as asked for."""
    torch.set_num_threads(options.threads)
    return torch.device(options.device)


def command() -> str:
    """How to repeat the run, in code marks, whatever folder it wrote to."""
    words = sys.argv[1:]
    if "--out" in words:
        at = words.index("--out")
        del words[at : at + 2]
    return f"`python benchmarks/{shlex.join([Path(sys.argv[0]).name, *words])}`"


def conditions(options: argparse.Namespace) -> str:
    """Machine, versions, device, threads and samples in one sentence."""
    where = torch.cuda.get_device_name(0) if options.device == "cuda" else f"{options.threads} thread(s)"
    return f"Measured on {machine()}, {where}; medians of {options.repeats} samples, taken in turns."


def interleaved(functions: dict[str, Call], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each call of each function: one warm-up of each, left out, then all in turns `repeats` times."""
    for function in functions.values():
        _seconds(function, device)
    gc.collect()
    found: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            found[name].append(_seconds(function, device))
    return found


def ratio(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """The median of `a` over the median of `b`.

    Error: 95 % bootstrap interval over rounds: samples of `a` and `b` that were taken together are drawn together.
    """
    pairs = np.array(list(zip(a, b, strict=True)))
    drawn = np.random.default_rng(0).integers(len(pairs), size=(RESAMPLES, len(pairs)))
    medians = np.median(pairs[drawn], axis=1)
    low, high = np.quantile(medians[:, 0] / medians[:, 1], [0.025, 0.975])
    top, bottom = np.median(pairs, axis=0)
    return Ratio(float(top / bottom), float(low), float(high))


def milliseconds(seconds: Sequence[float]) -> str:
    """Median and quartiles: "12.3 (12.1-12.9)"."""
    low, median, high = (f"{v:.3g}" if v < 1000 else f"{v:,.0f}" for v in 1e3 * np.quantile(seconds, [0.25, 0.5, 0.75]))
    return f"{median} ({low}-{high})"


def peak_bytes(function: Call, device: torch.device) -> int:
    """Most memory that the call holds at once beyond what was held before it; it runs once before, to warm up.

    Counted, not sampled. CUDA: torch's caching allocator. CPU: every allocation that torch's profiler sees, which is
    every tensor and what operations take from torch's allocator in between. What libraries take elsewhere is missed
    (oneDNN, OpenMP), and so is that memory from before the call is given back while it runs.
    """
    function()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        function()
    assert seen.profiler is not None
    changes = [
        (event.start_ns(), event.nbytes())
        for event in seen.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    return int(np.cumsum([size for _, size in sorted(changes, key=lambda change: change[0])]).max(initial=0))


def write(options: argparse.Namespace, name: str, lines: Sequence[str], samples: Sequence[dict[str, Any]]) -> None:
    """Print the table; with `--out` keep it as NAME.md, and every sample in NAME.jsonl."""
    print("\n".join(lines))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"{name}.md").write_text("\n".join(lines) + "\n")
        (options.out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))


def _seconds(function: Call, device: torch.device) -> float:
    """Of one call, waited for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
