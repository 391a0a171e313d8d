"""What can be bought and what it brings: blocks of neurons, best first, in every group.

Within a group all neurons have one price, so a choice is a number of blocks per group. Without alignment a block is a
neuron. With `multiple_of = m` (one for all groups, or one by group) the first block of a group fills its width up to
the next multiple of m and each further one adds m. A neuron is split once a stage at most, and only where its index is
below zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from energysplit.allocation.budgets import Limit, resolve
from energysplit.allocation.reach import within_tables
from energysplit.errors import InputError, nearest
from energysplit.types import Budget, Cost, Priceable, SplitIndex

Blocks = dict[str, int]
"""Group -> number of blocks bought, for every group of the problem."""


@dataclass(frozen=True, eq=False)
class Problem:
    """An allocation problem.

    widths: present width of every group of the network. order: group -> neurons with an index below zero, best first;
    only groups of which at least one block can be bought. ends: group -> neurons bought after 0, 1, 2, ... blocks.
    gains: group -> gain after 0, 1, 2, ... blocks (sum of -index times the group's weight, above zero each). unknown:
    neurons left out because their index is NaN. short: whether some group has good neurons, but fewer than its first
    block takes. multiples: group -> what its width becomes a multiple of, for groups that have good neurons.
    unmeasured: group -> why it can't grow as far as it has good neurons, where a measured table ends before.
    """

    net: Priceable
    widths: dict[str, int]
    order: dict[str, tuple[int, ...]]
    ends: dict[str, tuple[int, ...]]
    gains: dict[str, tuple[float, ...]]
    limits: tuple[Limit, ...]
    unknown: int
    short: bool
    multiples: dict[str, int]
    unmeasured: dict[str, str]

    @property
    def nothing(self) -> Blocks:
        """The choice that buys nothing."""
        return dict.fromkeys(self.order, 0)

    def most(self, group: str) -> int:
        """Number of blocks there are to buy in `group`."""
        return len(self.ends[group]) - 1

    def widths_at(self, blocks: Mapping[str, int]) -> dict[str, int]:
        """Widths of all groups after buying `blocks`."""
        return {**self.widths, **{name: self.widths[name] + self.ends[name][count] for name, count in blocks.items()}}

    def gain_at(self, blocks: Mapping[str, int]) -> float:
        """Predicted gain of `blocks`."""
        return math.fsum(self.gains[name][count] for name, count in blocks.items())

    def block_gain(self, group: str, number: int) -> float:
        """Gain of block `number` (from 0) of `group`."""
        return self.gains[group][number + 1] - self.gains[group][number]

    def within(self, blocks: Mapping[str, int]) -> bool:
        """Whether the network with `blocks`, re-priced as a whole, is inside every budget."""
        widths = self.widths_at(blocks)
        return all(limit.pricer.value(widths) <= limit.limit for limit in self.limits)

    def values(self, blocks: Mapping[str, int]) -> tuple[float, ...]:
        """Price of the whole network with `blocks`, in the order of `limits`."""
        widths = self.widths_at(blocks)
        return tuple(limit.pricer.value(widths) for limit in self.limits)

    def prices(self, blocks: Mapping[str, int]) -> dict[str, Cost]:
        """Budget name -> price of the whole network with `blocks`."""
        widths = self.widths_at(blocks)
        return {limit.name: limit.pricer.price(widths) for limit in self.limits}

    def split(self, blocks: Mapping[str, int]) -> dict[str, list[int]]:
        """Group -> sorted neuron numbers to split; groups that grow only."""
        return {name: sorted(self.order[name][: self.ends[name][count]]) for name, count in blocks.items() if count > 0}

    @cached_property
    def neighbours(self) -> dict[str, frozenset[str]]:
        """Group -> groups whose marginal prices may change when it grows, itself included.

        Layers add up, so only groups that share a layer matter. Under a maximum all do.
        """
        if any(limit.pricer.combine == "max" for limit in self.limits):
            return dict.fromkeys(self.order, frozenset(self.order))
        present = self.net.cases(self.widths)
        touched = {
            name: {
                layer
                for layer, case in self.net.cases({**self.widths, name: self.widths[name] + 1}).items()
                if case != present.get(layer)
            }
            for name in self.order
        }
        return {
            name: frozenset(other for other in self.order if other == name or touched[name] & touched[other])
            for name in self.order
        }


def build(
    net: Priceable,
    index: Mapping[str, SplitIndex],
    budgets: Sequence[Budget],
    *,
    multiple_of: int | Mapping[str, int] = 1,
    weights: Mapping[str, float] | None = None,
    seed_price: Mapping[str, float] | None = None,
) -> Problem:
    """The allocation problem of a network, its indices and its budgets.

    Args:
        net: the network as it is.
        index: group -> splitting indices, shape (channels of the group,); groups left out are not split.
        budgets: at least one.
        multiple_of: a group that grows ends at a width that is a multiple of it; by group, 1 where missing, or one
            number for all.
        weights: group -> factor on its gains (step sizes that differ by group), 1 where missing.
        seed_price: see `budgets.resolve`.

    Raises:
        InputError: unknown group, as many indices as neurons not given, or a weight or multiple out of range.
        BudgetError: see `budgets.resolve`.
    """
    widths = dict(net.widths)
    weights = {} if weights is None else weights
    multiples = multiple_of if isinstance(multiple_of, Mapping) else dict.fromkeys(widths, multiple_of)
    for what, given in (("index", index), ("weights", weights), ("multiple_of", multiples)):
        for name in given:
            if name not in widths:
                raise InputError(f"{what}: no group {name!r} in this network; {nearest(name, widths)}")
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"weight of group {name!r} is {weight!r}; expected a finite number of at least 0")
    for name, multiple in multiples.items():
        if isinstance(multiple, bool) or not isinstance(multiple, int) or multiple < 1:
            where = f" of group {name!r}" if multiples is multiple_of else ""
            raise InputError(f"multiple_of{where} is {multiple!r}; expected a whole number of at least 1")
    limits = resolve(net, budgets, seed_price)

    order: dict[str, tuple[int, ...]] = {}
    ends: dict[str, tuple[int, ...]] = {}
    gains: dict[str, tuple[float, ...]] = {}
    used: dict[str, int] = {}
    unknown, short = 0, False
    for name, group in net.groups.items():
        if not group.splittable or name not in index:
            continue
        values = _values(name, index[name], widths[name])
        unknown += sum(math.isnan(value) for value in values)
        weight = float(weights.get(name, 1.0))
        # Sorted is stable: neurons with equal indices keep their order. A weight of 0 buys nothing.
        good = sorted((i for i, value in enumerate(values) if value < 0 < weight), key=lambda i: values[i])
        stops = _ends(widths[name], len(good), multiples.get(name, 1))
        if good:
            used[name] = multiples.get(name, 1)
        short = short or (bool(good) and len(stops) == 1)
        if len(stops) > 1:
            order[name], ends[name] = tuple(good), stops
            gains[name] = tuple(weight * math.fsum(-values[i] for i in good[:stop]) for stop in stops)
    ends, unmeasured = within_tables(widths, ends, limits)
    for name, stops in list(ends.items()):
        gains[name] = gains[name][: len(stops)]
        if len(stops) == 1:
            del order[name], ends[name], gains[name]
    return Problem(net, widths, order, ends, gains, limits, unknown, short, used, unmeasured)


def _values(name: str, index: SplitIndex, channels: int) -> list[float]:
    values = [float(value) for value in index.value.tolist()]
    if len(values) != channels:
        raise InputError(f"index of group {name!r} has {len(values)} values, but the group has {channels} neurons")
    if any(value == -math.inf for value in values):
        raise InputError(f"index of group {name!r} holds minus infinity; expected finite numbers")
    return values


def _ends(width: int, purchasable: int, multiple_of: int) -> tuple[int, ...]:
    first = -width % multiple_of or multiple_of
    return (0, *range(first, purchasable + 1, multiple_of))
