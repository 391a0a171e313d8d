"""Spending three budgets on a large network: our methods beside the plain boolean MILP and the paper's LP, in one run.

    python benchmarks/allocation.py [--groups 1000] [--channels 100] [--seeds 2] [--out benchmarks/results]

The network is a chain of 1x1 convolutions with batch norm, traced like any other; indices are made up, two thirds of
them below zero, their size differing by group. Budgets: MACs 1.5x, parameters 1.4x, peak memory 1.5x of the network.
All methods get the same indices and prices. Reported of each: seconds (one process; what allocation does, tracing
left out), predicted gain against the bound of the relaxation around `milp`'s solution, and how far the re-priced
network is over its worst budget.

The two that stand for what is usually done have one variable a neuron and linear prices, each neuron at its marginal
price in the present network (Wang et al. 2019, arXiv 1910.03103, eq. 10): `boolean MILP` solves that in whole neurons,
`LP + threshold` relaxes it and takes fractions of at least one half. Neither prices the network again, so "gain that
fits" is what is left of it once our `fit` has dropped neurons until every budget is kept, and filled the rest.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cvxpy
import numpy as np
import torch
from common import machine
from scipy import sparse
from torch import nn

import energysplit as es
from energysplit.allocation.budgets import resolve
from energysplit.allocation.ledger import Ledger, Touched
from energysplit.allocation.problem import build
from energysplit.allocation.verify import fit

BUDGETS = [es.Budget("macs", "1.5x"), es.Budget("params", "1.4x"), es.Budget("peak_memory", "1.5x")]


def main() -> None:
    """Run the comparison and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--channels", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--time-limit", type=float, default=120.0, help="seconds of the plain MILP")
    parser.add_argument("--out", type=Path, help="folder for the table")
    options = parser.parse_args()

    torch.set_num_threads(1)
    net = chain(options.groups, options.channels)
    neurons = sum(group.channels for group in net.groups.values() if group.splittable)
    rows = []
    for seed in range(options.seeds):
        index = made_up(net, seed)
        results = {method: ours(net, index, method) for method in ("milp", "lp", "greedy", "top_k")}
        results["boolean MILP"] = plain(net, index, options.time_limit, boolean=True)
        results["LP + threshold"] = plain(net, index, options.time_limit, boolean=False)
        bound = results["milp"]["bound"]
        for method, found in results.items():
            rows.append(
                f"| {seed} | {method} | {found['seconds']:.1f} | {found['gain'] / bound:.2%} "
                f"| {found['fits'] / bound:.2%} | {over(found['used'])} | {found['note']} |"
            )
            print(rows[-1], flush=True)
    lines = [
        f"# Allocation: {options.groups:,} groups, {neurons:,} neurons, {len(BUDGETS)} budgets",
        "",
        f"`python benchmarks/allocation.py --groups {options.groups} --channels {options.channels} "
        f"--seeds {options.seeds}`, measured on {machine()}; HiGHS through CVXPY {cvxpy.__version__}, one process. "
        "Made-up indices; gain against the bound of the relaxation around `milp`'s solution.",
        "",
        "| seed | method | seconds | gain | gain that fits | over budget | solver |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
    ]
    if options.out:
        path = options.out / "allocation.md"
        path.write_text("\n".join(lines))
        print(f"written: {path}")


def chain(groups: int, channels: int) -> es.Network:
    """Convolutions with batch norm and ReLU one after another, at four resolutions."""
    layers: list[nn.Module] = []
    for place in range(groups):
        kernel = 3 if place == 0 else 1
        layers += [nn.Conv2d(channels if place else 3, channels, kernel, padding=kernel // 2, bias=False)]
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        if place % max(1, groups // 3) == groups // 6:
            layers.append(nn.AvgPool2d(2))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
    return es.trace(nn.Sequential(*layers), torch.zeros(1, 3, 16, 16))


def made_up(net: es.Network, seed: int) -> dict[str, es.SplitIndex]:
    """Random indices: two thirds below zero, sizes differing by a factor of 100 between groups."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, group in net.groups.items():
        if group.splittable:
            draw = torch.rand(group.channels + 1, generator=generator, dtype=torch.float64)
            value = 10 ** (2 * draw[0] - 2) * (draw[1:] ** 3 * 1.2 - 0.9)
            found[name] = es.SplitIndex(value, {}, None, torch.zeros_like(value), 1, "made up")
    return found


def ours(net: es.Network, index: dict[str, es.SplitIndex], method: str) -> dict:
    """One of the package's methods."""
    start = time.perf_counter()
    found = es.allocate(net, index, BUDGETS, method=method)
    seconds = time.perf_counter() - start
    used = [price.value / limit for price, limit in zip(found.price.values(), found.limit.values(), strict=True)]
    gain = found.predicted_gain
    return {
        "seconds": seconds,
        "gain": gain,
        "fits": gain,
        "bound": gain / (1 - found.gap),
        "used": used,
        "note": f"gap {found.gap:.3%}",
    }


def plain(net: es.Network, index: dict[str, es.SplitIndex], time_limit: float, *, boolean: bool) -> dict:
    """One variable a neuron at its marginal price in the present network."""
    start = time.perf_counter()
    limits = resolve(net, BUDGETS, None)
    ledger = Ledger(limits, Touched(limits), net.widths)
    names = list(index)
    neurons = [(place, number) for place, name in enumerate(names) for number in range(len(index[name].value))]
    owner = np.array([place for place, _ in neurons])
    gain = np.array([max(0.0, -float(v)) for name in names for v in index[name].value])
    rows, room = [], []
    for place, limit in enumerate(limits):
        first = [ledger.rows(place, name, net.widths[name]) for name in names]
        more = [ledger.rows(place, name, net.widths[name] + 1) for name in names]
        layers = ledger.by_layer(place) if limit.pricer.combine == "max" else {"": ledger.values[place]}
        where = {layer: number for number, layer in enumerate(layers)}
        steps = [
            (where[layer], group, (more[group][layer] - first[group][layer]) / limit.limit)
            for group in range(len(names))
            for layer in first[group]
        ]
        at, group, step = (np.array(column) for column in zip(*steps, strict=True))
        by_group = sparse.csr_array((step, (at.astype(int), group.astype(int))), shape=(len(where), len(names)))
        rows.append(by_group[:, owner])
        room += [1 - value / limit.limit for value in layers.values()]
    x = cvxpy.Variable(len(gain), boolean=True) if boolean else cvxpy.Variable(len(gain), bounds=[0, 1])
    problem = cvxpy.Problem(cvxpy.Maximize((gain / gain.max()) @ x), [sparse.vstack(rows) @ x <= np.array(room)])
    try:
        problem.solve(solver=cvxpy.HIGHS, highs_options={"parallel": "off", "time_limit": time_limit})
    except cvxpy.error.SolverError as error:
        return {
            "seconds": time.perf_counter() - start,
            "gain": 0.0,
            "fits": 0.0,
            "used": [0.0],
            "note": f"no solution: {error}",
        }
    taken = np.asarray(x.value) >= 0.5
    seconds = time.perf_counter() - start
    counts = np.bincount(owner[taken], minlength=len(names))
    widths = {**net.widths, **{name: net.widths[name] + int(more) for name, more in zip(names, counts, strict=True)}}
    used = [limit.pricer.value(widths) / limit.limit for limit in limits]
    ours = build(net, index, BUDGETS)
    blocks = {name: int(counts[names.index(name)]) for name in ours.ends}
    fits = ours.gain_at(fit(ours, blocks))
    return {"seconds": seconds, "gain": float(gain[taken].sum()), "fits": fits, "used": used, "note": problem.status}


def over(used: list[float]) -> str:
    """How far the worst budget is exceeded."""
    worst = max(used) - 1
    return f"{worst:.1%}" if worst > 0 else "-"


if __name__ == "__main__":
    main()
