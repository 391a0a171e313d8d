"""What a group offers: the best splits for every number of channels, against every combination of splits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from energysplit.allocation.offers import offer
from energysplit.errors import InputError
from energysplit.kinds import kinds
from energysplit.types import SplitIndex

NAN = float("nan")


def made_up(values: list[float], stderr: list[float] | None = None, upper: SplitIndex | None = None) -> SplitIndex:
    errors = None if stderr is None else torch.tensor(stderr, dtype=torch.float64)
    value = torch.tensor(values, dtype=torch.float64)
    return SplitIndex(value, {}, errors, torch.zeros(len(values)), 8, "made up", upper=upper)


def test_pairs_are_the_best_indices_first() -> None:
    found = offer("g", made_up([-1.0, 0.5, -3.0, -1.0, 0.0, NAN]), 6)
    assert found.gain.tolist() == [0, 3, 4, 5]
    assert found.unknown == 1
    assert [found.bought(n) for n in range(4)] == [
        {},
        {2: "pair"},
        {0: "pair", 2: "pair"},
        {0: "pair", 2: "pair", 3: "pair"},
    ], "equal indices in their order"


def test_risk_leaves_out_what_may_be_above_zero() -> None:
    index = made_up([-1.0, -1.0, -0.5, NAN], [0.4, 0.6, 0.1, 0.1])
    assert set(offer("g", index, 4, risk=0.0).bought(3)) == {0, 1, 2}
    careful = offer("g", index, 4, risk=2.0)
    assert careful.gain.tolist() == [0, 1.0, 1.5], "the gain stays the expected one"
    assert set(careful.bought(2)) == {0, 2}
    assert (careful.unsure, careful.unknown) == (1, 1)
    unsure = offer("g", made_up([-1.0, -1.0], [NAN, 0.1]), 2, risk=1.0)
    assert (unsure.gain.tolist(), unsure.unknown, unsure.unsure) == ([0, 1.0], 1, 0)


def test_risk_counts_at_both_ends() -> None:
    upper = made_up([2.0, 2.0], [0.1, 3.0])
    found = offer("g", made_up([-1.0, -1.0], [2.0, 0.1], upper), 2, mass=3.0, risk=1.0)
    # Neuron 0 is sure of its upper end only, neuron 1 of its lower one.
    assert found.bought(len(found.gain) - 1) == {0: "high_triple", 1: "low_triple"}
    assert found.gain[-1] == 1.0 * 2.0 + 2.0 * 1.0
    assert found.unsure == 0, "one sure end is enough"


def test_a_neuron_of_which_one_end_is_unknown_is_left_out() -> None:
    found = offer("g", made_up([-1.0, -1.0], upper=made_up([NAN, 2.0])), 2, mass=3.0)
    assert (set(found.bought(len(found.gain) - 1)), found.unknown) == ({1}, 1)


@pytest.mark.parametrize("mass", [1.5, 3.0, 6.0])
def test_signed_splits_against_every_combination(mass: float) -> None:
    generator = torch.Generator().manual_seed(int(10 * mass))
    for _ in range(12):
        low = torch.randn(4, generator=generator, dtype=torch.float64) - 0.5
        high = low + 2 * torch.rand(4, generator=generator, dtype=torch.float64)
        found = offer("g", made_up(low.tolist(), upper=made_up(high.tolist())), 4, mass=mass)
        listed = [None, *kinds(mass).values()]
        best = np.full(3 * 4 + 1, -math.inf)
        for chosen in itertools.product(listed, repeat=4):
            gains = [
                0.0 if kind is None else -(kind.low * float(low[i]) + kind.high * float(high[i]))
                for i, kind in enumerate(chosen)
            ]
            if all(gain > 0 for gain, kind in zip(gains, chosen, strict=True) if kind):
                added = sum(kind.added for kind in chosen if kind)
                best[added] = max(best[added], sum(gains))
        # More channels may be possible that bring nothing more; an offer need not have them.
        for count, gain in enumerate(best):
            offered = found.gain[count] if count < len(found.gain) else -math.inf
            assert offered <= gain + 1e-12
            assert found.gain[: count + 1].max() >= gain - 1e-12
            if math.isfinite(offered):
                bought = found.bought(count)
                assert sum(kinds(mass)[kind].added for kind in bought.values()) == count
                worth = -sum(
                    kinds(mass)[kind].low * float(low[i]) + kinds(mass)[kind].high * float(high[i])
                    for i, kind in bought.items()
                )
                assert worth == pytest.approx(offered, abs=1e-12)


def test_what_is_missing_or_wrong_is_said() -> None:
    with pytest.raises(InputError, match="index of group 'g' has 2 values, but the group has 3 neurons"):
        offer("g", made_up([-1.0, 1.0]), 3)
    with pytest.raises(InputError, match="index of group 'g' holds minus infinity; expected finite numbers"):
        offer("g", made_up([-math.inf]), 1)
    with pytest.raises(
        InputError, match=r"no upper end, which mass = 2 needs; use splitting_index\(\.\.\., signed=True\)"
    ):
        offer("g", made_up([-1.0]), 1, mass=2.0)
    with pytest.raises(
        InputError, match="no standard errors, which risk = 1 needs; estimate it on more than one image"
    ):
        offer("g", made_up([-1.0]), 1, risk=1.0)
    with pytest.raises(InputError, match=r"mass = 0\.5 given, a finite number of at least 1 expected"):
        offer("g", made_up([-1.0], upper=made_up([1.0])), 1, mass=0.5)
