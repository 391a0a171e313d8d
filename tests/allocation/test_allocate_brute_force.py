"""Against brute force on a thousand small networks: many kinds of price, one to three budgets, loose and tight.

Half of them are hard: every neuron is worth 1 to 1.3 times its price in MACs, so that ending at a limit is nearly all
that counts. The references below try every choice of neurons one by one, with prices of the whole network.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from energysplit.allocation import allocate, exhaustive, search
from energysplit.allocation.problem import build
from energysplit.costs import marginal_price, price
from energysplit.kinds import kinds
from energysplit.types import Budget, Cost, LayerCase, SplitIndex

CASES = 1000


class Steps:
    """A made-up staircase: channels are padded to multiples of four."""

    unit = "us"

    def price(self, case: LayerCase) -> Cost:
        padded = -(-case.out_channels // 4) * 4 * -(-case.in_channels // case.groups // 4) * 4
        return Cost.exact(10.0 + 0.01 * padded * case.out_size[0] * case.out_size[1], self.unit, "estimated")


class Dips:
    """Made-up kernels that are faster at multiples of four, so that wider may be cheaper."""

    unit = "us"

    def price(self, case: LayerCase) -> Cost:
        slow = 1.6 if case.out_channels % 4 else 1.0
        work = case.out_channels * (case.in_channels // case.groups) * case.out_size[0] * case.out_size[1]
        return Cost.exact(5.0 + 0.01 * slow * work, self.unit, "estimated")


class Memory:
    """A maximum: bytes read and written by one layer."""

    unit, combine = "B", "max"

    def price(self, case: LayerCase) -> Cost:
        read = case.in_channels * case.in_size[0] * case.in_size[1]
        return Cost.exact(4 * (read + case.out_channels * case.out_size[0] * case.out_size[1]), self.unit)


def drawn(seed: int, chain: Callable, indices: Callable, most_groups: int = 4, widest: int = 7) -> tuple:
    """A network, its indices and budgets."""
    draw = random.Random(seed)
    net = chain([draw.randint(2, widest) for _ in range(draw.randint(2, most_groups))], bool(seed % 2))
    values = None
    if draw.random() < 0.5:
        macs = marginal_price(net, "macs")
        values = {name: [-macs[name] * draw.uniform(1, 1.3) for _ in range(net.widths[name])] for name in macs}
    providers = draw.sample(["macs", "params", Steps(), Dips(), Memory()], draw.randint(1, 3))
    budgets = [Budget(provider, f"{draw.uniform(1.02, 1.9):.3f}x") for provider in providers]
    return net, indices(net, seed, values), budgets


def best_gain(net, index: dict[str, SplitIndex], budgets: list[Budget]) -> float:
    """The largest gain of any number of neurons of each group inside every budget."""
    groups = {name: sorted(-value for value in one.value.tolist() if value < 0)[::-1]
              for name, one in index.items() if net.groups[name].splittable}  # fmt: skip
    limits = [(budget.provider, float(budget.limit[:-1]) * price(net, budget.provider).value) for budget in budgets]
    layers: dict = {}

    def cost(provider, widths: dict[str, int]) -> float:
        found = []
        for name, case in net.cases(widths).items():
            key = id(provider) if not isinstance(provider, str) else provider, name, case
            if key not in layers:
                layers[key] = price(_One(case), provider).value
            found.append(layers[key])
        return max(found) if getattr(provider, "combine", "sum") == "max" else sum(found)

    best = 0.0
    for counts in itertools.product(*(range(len(gains) + 1) for gains in groups.values())):
        gain = sum(sum(gains[:count]) for gains, count in zip(groups.values(), counts, strict=True))
        if gain > best:
            widths = {name: net.widths[name] + count for name, count in zip(groups, counts, strict=True)}
            if all(cost(provider, widths) <= limit for provider, limit in limits):
                best = gain
    return best


class _One:
    """A network of one layer."""

    def __init__(self, case: LayerCase) -> None:
        self.groups, self.widths, self._case = {}, {}, case

    def cases(self, widths=None) -> dict[str, LayerCase]:
        return {"layer": self._case}

    operations = cases


def inside(net, found, budgets: list[Budget]) -> bool:
    grown = {name: width + len(found.split.get(name, [])) for name, width in net.widths.items()}
    return all(
        price(net, budget.provider, grown).value <= float(budget.limit[:-1]) * price(net, budget.provider).value
        for budget in budgets
    )


@pytest.mark.parametrize("part", range(10))
def test_a_thousand_networks(part: int, chain: Callable, indices: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six hundred go the way of large networks, by rounds of the knapsack alone; the others as users have them go."""
    if part < 6:
        monkeypatch.setattr(search, "search_all", lambda problem: None)
    shortfalls = []
    for seed in range(part * CASES // 10, (part + 1) * CASES // 10):
        net, index, budgets = drawn(seed, chain, indices, most_groups=3, widest=6)
        found = allocate(net, index, budgets)
        assert inside(net, found, budgets)
        assert ("the best of all" in found.status) == (part >= 6 and bool(found.split))
        best = best_gain(net, index, budgets)
        assert found.predicted_gain <= best * (1 + 1e-9)
        shortfalls.append(1 - found.predicted_gain / best if best > 0 else 0.0)
    close = sum(shortfall <= 0.005 for shortfall in shortfalls) / len(shortfalls)
    assert close >= 0.99, f"within 0.5 % of the best on {close:.1%}"


def test_more_groups_by_rounds_alone(chain: Callable, indices: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against `search_all`, which the test above proves, as trying choices one by one would take too long."""
    monkeypatch.setattr(search, "search_all", lambda problem: None)
    shortfalls = []
    for seed in range(50):
        net, index, budgets = drawn(seed, chain, indices, most_groups=5)
        found = allocate(net, index, budgets)
        assert inside(net, found, budgets)
        problem = build(net, index, budgets)
        known = exhaustive.search_all(problem)
        assert known is not None
        best = problem.gain_at(known)
        shortfalls.append(1 - found.predicted_gain / best if best > 0 else 0.0)
    close = sum(shortfall <= 0.005 for shortfall in shortfalls) / len(shortfalls)
    assert close >= 0.98, f"within 0.5 % of the best on {close:.1%}"
    assert min(shortfalls) >= -1e-9


def test_signed_splits(chain: Callable) -> None:
    """Every kind of split of every neuron, in all combinations."""
    close = 0
    for seed in range(30):
        draw = random.Random(seed)
        net = chain([draw.randint(1, 2), draw.randint(1, 2)], bool(seed % 2))
        generator = torch.Generator().manual_seed(seed)
        index, mass = {}, draw.uniform(1.2, 4)
        for name in ("conv0", "conv1"):
            low = torch.randn(net.widths[name], generator=generator, dtype=torch.float64) - 0.5
            one = SplitIndex(low, {}, None, torch.zeros_like(low), 1, "made up")
            high = low + 2 * torch.rand(len(low), generator=generator, dtype=torch.float64)
            index[name] = replace(one, upper=replace(one, value=high))
        budgets = [Budget("macs", f"{draw.uniform(1.2, 3):.2f}x"), Budget("params", f"{draw.uniform(1.2, 3):.2f}x")]
        found = allocate(net, index, budgets, mass=mass)
        neurons = [(name, i) for name in index for i in range(net.widths[name])]
        limits = [float(budget.limit[:-1]) * price(net, budget.provider).value for budget in budgets]
        best = 0.0
        for chosen in itertools.product([None, *kinds(mass).values()], repeat=len(neurons)):
            gain, widths = 0.0, dict(net.widths)
            for (name, i), kind in zip(neurons, chosen, strict=True):
                if kind is not None:
                    ends = float(index[name].value[i]), float(index[name].upper.value[i])
                    gain -= kind.low * ends[0] + kind.high * ends[1]
                    widths[name] += kind.added
            if gain > best and all(
                price(net, budget.provider, widths).value <= limit
                for budget, limit in zip(budgets, limits, strict=True)
            ):
                best = gain
        grown = dict(net.widths)
        for name, bought in found.kinds.items():
            assert sorted(bought) == found.split[name]
            grown[name] += sum(kinds(mass)[kind].added for kind in bought.values())
        for budget, limit in zip(budgets, limits, strict=True):
            assert price(net, budget.provider, grown).value <= limit
        assert found.predicted_gain <= best + 1e-9
        close += found.predicted_gain >= 0.995 * best
    assert close == 30
