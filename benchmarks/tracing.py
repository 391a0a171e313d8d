"""Time to analyse a network and to split all its groups once, beside torch-pruning's dependency graph.

    python benchmarks/tracing.py --out benchmarks/results

Every measurement is a process of its own, so that neither tool finds the other's caches, and none can take more than
its memory: torch-pruning's graph of Swin grows without end. A process imports and runs its tool once on a tiny network
before it measures. Tools and networks alternate within a round; the table holds medians over rounds.

energysplit: `trace` includes the trial growth that proves what was found; "all once" splits one neuron of every group.
torch-pruning: `DependencyGraph.build_dependency`; "all once" removes one channel from every group, the surgery nearest
to a split that it has. It proves nothing, and its groups are not those that can be split.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

NETWORKS = (
    "mobilenet_v2",
    "resnet18",
    "resnet50",
    "densenet121",
    "efficientnet_b0",
    "regnet_y_400mf",
    "shufflenet_v2_x1_0",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
)
TOOLS = ("energysplit", "torch-pruning")
Result = dict[str, float | str]


def main() -> None:
    """Measure everything and write a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("networks", nargs="*", default=NETWORKS)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--gib", type=float, default=8.0, help="memory a process may address")
    arguments.add_argument("--seconds", type=float, default=120.0, help="time a process may take")
    arguments.add_argument("--out", type=Path, help="folder for the table")
    arguments.add_argument("--worker", nargs=2, metavar=("TOOL", "NETWORK"), help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.worker:
        tool, network = options.worker
        print(json.dumps(_measure(tool, network, options.gib)))
        return
    found: dict[tuple[str, int, str], list[Result]] = defaultdict(list)
    for number in range(options.rounds):
        for threads in options.threads:
            for network in options.networks:
                for tool in TOOLS:
                    result = _spawn(tool, network, threads, options.gib, options.seconds)
                    found[network, threads, tool].append(result)
                    print(number, threads, network, tool, json.dumps(result), flush=True)
    lines = _table(found, options)
    print("\n".join(lines))
    if options.out:
        (options.out / "tracing.md").write_text("\n".join(lines) + "\n")


def _spawn(tool: str, network: str, threads: int, gib: float, seconds: float) -> Result:
    """What a process of its own measures, or what stopped it."""
    command = [sys.executable, __file__, "--worker", tool, network, "--gib", str(gib)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {seconds:.0f} s"}
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        last = next((line for line in reversed(lines) if "Error" in line or "alloc" in line), lines[-1])
        full = any(word in done.stderr for word in ("MemoryError", "not enough memory", "can't allocate", "bad_alloc"))
        return {"failed": f"out of memory at {gib:g} GiB" if full else last[:100]}
    return json.loads(done.stdout.splitlines()[-1])


def _measure(tool: str, network: str, gib: float) -> Result:
    """Seconds of analysis and of one surgery everywhere, and the process's largest memory."""
    limit = int(gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    import torch
    import torchvision

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    run = _energysplit if tool == "energysplit" else _torch_pruning
    torch.manual_seed(0)
    run(torchvision.models.squeezenet1_1(num_classes=10).eval(), torch.randn(1, 3, 64, 64))
    model = torchvision.models.get_model(network).eval()
    analysis_s, surgery_s, groups = run(model, torch.randn(1, 3, 224, 224))
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"analysis_s": analysis_s, "surgery_s": surgery_s, "groups": groups, "peak_gib": peak_gib}


def _energysplit(model: nn.Module, image: Tensor) -> tuple[float, float, int]:
    import energysplit as es

    start = time.perf_counter()
    net = es.trace(model, image)
    traced = time.perf_counter()
    able = [name for name, group in net.groups.items() if group.splittable]
    es.split(net, {name: [0] for name in able})
    return traced - start, time.perf_counter() - traced, len(able)


def _torch_pruning(model: nn.Module, image: Tensor) -> tuple[float, float, int]:
    import torch_pruning  # type: ignore[import-untyped]

    start = time.perf_counter()
    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=image)
    built = time.perf_counter()
    head = [layer for layer in model.modules() if getattr(layer, "out_features", None) in (10, 1000)]
    groups = list(graph.get_all_groups(ignored_layers=head))
    for group in groups:
        root = group[0].dep.target.module
        graph.get_pruning_group(root, group[0].dep.handler, idxs=[0]).prune()
    return built - start, time.perf_counter() - built, len(groups)


def _table(found: dict[tuple[str, int, str], list[Result]], options: argparse.Namespace) -> list[str]:
    from common import machine

    lines = [
        "# Analysing a network, and splitting all its groups once",
        "",
        f"`benchmarks/tracing.py`: medians of {options.rounds} rounds, range in brackets, seconds; float32, one image",
        f"of 224 x 224, random weights, at most {options.gib:g} GiB of memory a process. Measured on {machine()},",
        f"torchvision {version('torchvision')}, torch-pruning {version('torch-pruning')}.",
        "energysplit's analysis includes the trial growth that proves it. torch-pruning removes one channel a group.",
        "",
        "| network | threads | energysplit: analysis | all groups once | peak GiB "
        "| torch-pruning: analysis | all groups once | peak GiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for network in options.networks:
        for threads in options.threads:
            cells = [cell for tool in TOOLS for cell in _cells(found[network, threads, tool])]
            lines.append(f"| {network} | {threads} | " + " | ".join(cells) + " |")
    return lines


def _cells(results: list[Result]) -> list[str]:
    """Analysis, surgery and memory of one tool; the reason where a round failed."""
    failed = [str(result["failed"]) for result in results if "failed" in result]
    if failed:
        return [f"{failed[0]} ({len(failed)} of {len(results)} rounds)", "-", "-"]

    def spread(key: str) -> str:
        values = sorted(float(result[key]) for result in results)
        return f"{statistics.median(values):.2f} [{values[0]:.2f}, {values[-1]:.2f}]"

    return [spread("analysis_s"), spread("surgery_s"), f"{max(float(result['peak_gib']) for result in results):.1f}"]


if __name__ == "__main__":
    main()
