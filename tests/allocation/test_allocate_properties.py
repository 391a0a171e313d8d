"""Over random networks, indices and budgets, for every method: inside every budget, full, and only good neurons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energysplit.allocation import SEEKING, allocate, search
from energysplit.costs import price
from energysplit.types import Budget, Cost, LayerCase

CHAINS = st.tuples(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.booleans(), st.integers(0, 10_000))
FACTORS = st.floats(1.0, 4.5).map(lambda factor: f"{factor:.4f}x")


class Steps:
    """A made-up table: channels are padded to multiples of 4, and every layer costs something at least."""

    unit = "us"

    def price(self, case: LayerCase) -> Cost:
        padded = -(-case.out_channels // 4) * 4 * -(-case.in_channels // case.groups // 4) * 4
        return Cost.exact(10.0 + 0.01 * padded * case.out_size[0] * case.out_size[1], self.unit, "estimated")


class Widest:
    """A made-up maximum: the largest layer output, as peak memory."""

    unit, combine = "byte", "max"

    def price(self, case: LayerCase) -> Cost:
        return Cost.exact(4 * case.out_channels * case.out_size[0] * case.out_size[1], self.unit)


BUDGETS = st.one_of(
    FACTORS.map(lambda limit: [Budget("macs", limit)]),
    st.tuples(FACTORS, FACTORS).map(lambda pair: [Budget("macs", pair[0], "stage"), Budget("params", pair[1])]),
    st.tuples(FACTORS, FACTORS).map(lambda pair: [Budget("macs", min(pair), "stage"), Budget("macs", max(pair))]),
    FACTORS.map(lambda limit: [Budget(Steps(), limit)]),
    st.tuples(FACTORS, FACTORS).map(lambda pair: [Budget(Widest(), pair[0]), Budget("params", pair[1])]),
)


def bought_next(width: int, bought: int, good: int, multiple_of: int) -> int | None:
    """Neurons of the next block of a group, None if there are not enough good ones left."""
    now = width + bought
    more = multiple_of - now % multiple_of
    return more if bought + more <= good else None


@pytest.mark.parametrize("multiple_of", [1, 4])
@pytest.mark.parametrize("method", [*SEEKING, "milp by rounds alone"])
def test_full_inside_and_only_good_neurons(
    method: str, multiple_of: int, chain: Callable, indices: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Heuristic-free: everything is recomputed from `price`, which the allocator's own books don't enter.
    if method not in SEEKING:
        method = "milp"
        monkeypatch.setattr(search, "search_all", lambda problem: None)

    @settings(max_examples=25)
    @given(CHAINS, BUDGETS)
    def holds(drawn: tuple[Sequence[int], bool, int], budgets: list[Budget]) -> None:
        channels, depthwise, seed = drawn
        net = chain(channels, depthwise)
        index = indices(net, seed)
        found = allocate(net, index, budgets, method=method, multiple_of=multiple_of)

        assert set(found.split) <= {name for name, group in net.groups.items() if group.splittable}
        for name, neurons in found.split.items():
            value = index[name].value
            assert neurons == sorted(set(neurons))
            assert neurons
            assert all(value[neuron] < 0 for neuron in neurons)
            left = [float(value[i]) for i in range(len(value)) if i not in neurons]
            assert max(float(value[i]) for i in neurons) <= min(left, default=0.0), "best first within a group"
            assert (net.widths[name] + len(neurons)) % multiple_of == 0

        grown = {name: width + len(found.split.get(name, [])) for name, width in net.widths.items()}
        limits = list(zip(found.limit.items(), budgets, strict=True))
        for (name, limit), budget in limits:
            true = price(net, budget.provider, grown)
            assert true.value <= limit
            assert found.price[name] == true
        assert not purchasable(net, index, grown, limits, multiple_of)

        gain = -sum(float(index[name].value[neurons].sum()) for name, neurons in found.split.items())
        assert found.predicted_gain == pytest.approx(gain, rel=1e-12, abs=1e-15)
        assert found.predicted_gain >= 0
        assert 0 <= found.gap <= 1
        assert all(dual >= 0 for dual in found.shadow_price.values())
        assert found.status.endswith(".")

    def purchasable(net: object, index: Mapping, grown: Mapping[str, int], limits: list, multiple_of: int) -> list[str]:
        """Groups of which one more block fits."""
        fits = []
        for name, group in net.groups.items():
            good = int((index[name].value < 0).sum())
            more = bought_next(group.channels, grown[name] - group.channels, good, multiple_of)
            if group.splittable and more is not None:
                wider = {**grown, name: grown[name] + more}
                if all(price(net, budget.provider, wider).value <= limit for (_, limit), budget in limits):
                    fits.append(name)
        return fits

    holds()
