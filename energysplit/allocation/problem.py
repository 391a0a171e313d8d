"""What can be bought and what it brings: blocks of channels, best first, in every group.

Within a group all channels have one price, so a choice is a number of blocks per group. Without alignment a block is a
channel. With `multiple_of = m` (one for all groups, or one by group) the first block of a group fills its width up to
the next multiple of m and each further one adds m. A neuron is split once a stage at most, and only where that pays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from energysplit.allocation.bounds import ceilings
from energysplit.allocation.budgets import Limit, resolve
from energysplit.allocation.ledger import Ledger, Touched
from energysplit.allocation.offers import Offer, offer, offer_in_order
from energysplit.allocation.profile import straight
from energysplit.allocation.reach import within_tables
from energysplit.errors import InputError, nearest
from energysplit.kinds import kinds
from energysplit.types import Budget, Cost, GroupBound, Priceable, SplitIndex

Blocks = dict[str, int]
"""Group -> number of blocks bought, for every group of the problem."""


@dataclass(frozen=True, eq=False)
class Problem:
    """An allocation problem.

    widths: present width of every group of the network. offers: of the groups of which a block can be bought. ends:
    group -> channels added after 0, 1, 2, ... blocks. gains: group -> gain after 0, 1, 2, ... blocks (times the group's
    weight), rising. limits: the budgets. unknown: neurons left out because their index is NaN. unsure: neurons left out
    because of `risk`. short: whether some group has good neurons, but not enough for its first block. unaligned:
    whether some has more than whole blocks of them. multiples: group -> what its width becomes a multiple of, for
    groups that have good neurons. unmeasured: group -> why it can't grow as far as it has good neurons, where a
    measured table ends before. bounded: groups that would grow further but for a bound on them. still: groups with good
    neurons whose weight is 0, which a step would not move. mass: of signed splits. ordered: whether neurons come in an
    order that was given, whatever they bring; gains may fall then.
    """

    net: Priceable
    widths: dict[str, int]
    offers: dict[str, Offer]
    ends: dict[str, tuple[int, ...]]
    gains: dict[str, tuple[float, ...]]
    limits: tuple[Limit, ...]
    unknown: int = 0
    unsure: int = 0
    short: bool = False
    unaligned: bool = False
    multiples: dict[str, int] = field(default_factory=dict)
    unmeasured: dict[str, str] = field(default_factory=dict)
    bounded: frozenset[str] = frozenset()
    still: frozenset[str] = frozenset()
    mass: float = 1.0
    ordered: bool = False

    def under(self, limits: Sequence[Limit]) -> Problem:
        """The same problem under other limits with the same providers, of which some may be left out."""
        return replace(self, limits=tuple(limits))

    @property
    def nothing(self) -> Blocks:
        """The choice that buys nothing."""
        return dict.fromkeys(self.ends, 0)

    @property
    def everything(self) -> Blocks:
        """The choice that buys all there is."""
        return {name: self.most(name) for name in self.ends}

    def most(self, group: str) -> int:
        """Number of blocks there are to buy in `group`."""
        return len(self.ends[group]) - 1

    def width(self, group: str, count: int) -> int:
        """Width of a group after buying `count` blocks."""
        return self.widths[group] + self.ends[group][count]

    def every_width(self, group: str) -> list[int]:
        """Widths of a group after 0, 1, 2, ... blocks."""
        return [self.widths[group] + added for added in self.ends[group]]

    def widths_at(self, blocks: Mapping[str, int]) -> dict[str, int]:
        """Widths of all groups after buying `blocks`."""
        return {**self.widths, **{name: self.width(name, count) for name, count in blocks.items()}}

    def gain_at(self, blocks: Mapping[str, int]) -> float:
        """Predicted gain of `blocks`."""
        return math.fsum(self.gains[name][count] for name, count in blocks.items())

    def ledger(self, blocks: Mapping[str, int]) -> Ledger:
        """The prices of the network with `blocks`, to go on from."""
        return Ledger(self.limits, self.touched, self.widths_at(blocks))

    def within(self, blocks: Mapping[str, int]) -> bool:
        """Whether the network with `blocks`, re-priced as a whole, is inside every budget."""
        widths = self.widths_at(blocks)
        return all(limit.pricer.value(widths) <= limit.limit for limit in self.limits)

    def prices(self, blocks: Mapping[str, int]) -> dict[str, Cost]:
        """Budget name -> price of the whole network with `blocks`."""
        widths = self.widths_at(blocks)
        return {limit.name: limit.pricer.price(widths) for limit in self.limits}

    def bought(self, blocks: Mapping[str, int]) -> dict[str, dict[int, str]]:
        """Group -> neuron -> kind of its split; groups that grow only."""
        return {name: self.offers[name].bought(self.ends[name][count]) for name, count in blocks.items() if count > 0}

    @cached_property
    def touched(self) -> Touched:
        """The layers whose prices change with each group."""
        return Touched(self.limits)

    @cached_property
    def neighbours(self) -> dict[str, tuple[str, ...]]:
        """Group -> groups of the problem whose marginal prices may change when it grows, itself included."""
        found = self.touched.neighbours
        # In a fixed order, whatever the hashes of names are.
        return {name: tuple(other for other in self.ends if other in found[name]) for name in self.ends}

    @cached_property
    def stepped(self) -> frozenset[str]:
        """Groups whose prices are no straight line over their width: to them a longer step may be the cheaper one."""
        ledger = self.ledger(self.nothing)
        return frozenset(name for name in self.ends if not straight(ledger, name, self.every_width(name)))


def build(
    net: Priceable,
    index: Mapping[str, SplitIndex],
    budgets: Sequence[Budget],
    *,
    multiple_of: int | Mapping[str, int] = 1,
    weights: Mapping[str, float] | None = None,
    seed_price: Mapping[str, float] | None = None,
    risk: float = 0.0,
    mass: float = 1.0,
    bounds: Mapping[str, GroupBound] | None = None,
    order: Mapping[str, Sequence[int]] | None = None,
) -> Problem:
    """The allocation problem of a network, its indices and its budgets.

    Args:
        net: the network as it is.
        index: group -> splitting indices, shape (channels of the group,); groups left out are not split.
        budgets: at least one.
        multiple_of: a group that grows ends at a width that is a multiple of it; by group, 1 where missing, or one
            number for all.
        weights: group -> factor on its gains (step sizes that differ by group), 1 where missing; a group of weight 0
            is not split, for its step would not part the copies.
        seed_price: see `budgets.resolve`.
        risk: see `offers.offer`.
        mass: see `offers.offer`.
        bounds: see `bounds.ceilings`.
        order: group -> the neurons that may be split, in the order in which they are, whatever they bring (`risk` has
            no effect then); None: those that pay, in the order that brings most. Plain pairs only.

    Raises:
        InputError: unknown group, as many indices as neurons not given, or an argument out of range.
        BudgetError: see `budgets.resolve`.
    """
    kinds(mass)  # refuses what is no mass
    widths = dict(net.widths)
    weights = {} if weights is None else weights
    multiples = multiple_of if isinstance(multiple_of, Mapping) else dict.fromkeys(widths, multiple_of)
    for what, given in (("index", index), ("weights", weights), ("multiple_of", multiples)):
        for name in given:
            if name not in widths:
                raise InputError(f"{what}: no group {name!r} in this network; {nearest(str(name), widths)}")
    for name, one in index.items():
        if not isinstance(one, SplitIndex):
            raise InputError(f"index of group {name!r} is {type(one).__name__}; expected what splitting_index returns")
    _check(weights, multiples, multiples is multiple_of, risk)
    most = ceilings(bounds or {}, net.groups)
    limits = resolve(net, budgets, seed_price)

    offers: dict[str, Offer] = {}
    ends: dict[str, tuple[int, ...]] = {}
    used: dict[str, int] = {}
    bounded, still, unknown, unsure, short, unaligned = set(), set(), 0, 0, False, False
    for name, group in net.groups.items():
        if not group.splittable or name not in index:
            continue
        if order is None:
            found = offer(name, index[name], widths[name], mass=mass, risk=risk)
        else:
            found = offer_in_order(name, index[name], widths[name], order.get(name, ()))
        unknown, unsure = unknown + found.unknown, unsure + found.unsure
        if len(found.gain) == 1:
            continue
        if weights.get(name, 1.0) == 0:
            still.add(name)
            continue
        used[name] = multiples.get(name, 1)
        free = _ends(found, widths[name], used[name], math.inf, order is not None)
        stops = _ends(found, widths[name], used[name], most.get(name, math.inf), order is not None)
        short = short or len(free) == 1
        unaligned = unaligned or (used[name] > 1 and free[-1] < len(found.gain) - 1)
        if len(stops) < len(free):
            bounded.add(name)
        if len(stops) > 1:
            offers[name], ends[name] = found, stops
    ends, unmeasured = within_tables(widths, ends, limits)
    ends = {name: stops for name, stops in ends.items() if len(stops) > 1}
    gains = {
        name: tuple(float(weights.get(name, 1.0)) * gain for gain in offers[name].gain[list(stops)].tolist())
        for name, stops in ends.items()
    }
    for name, brought in gains.items():
        if not math.isfinite(brought[-1]):
            raise InputError(f"gains of group {name!r} are not finite; expected smaller indices, weights or mass")
    offers = {name: offers[name] for name in ends}
    return Problem(
        net,
        widths,
        offers,
        ends,
        gains,
        limits,
        unknown=unknown,
        unsure=unsure,
        short=short,
        unaligned=unaligned,
        multiples=used,
        unmeasured=unmeasured,
        bounded=frozenset(bounded),
        still=frozenset(still),
        mass=float(mass),
        ordered=order is not None,
    )


def _check(weights: Mapping[str, float], multiples: Mapping[str, int], by_group: bool, risk: float) -> None:
    """Refuse numbers out of range."""
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise InputError(f"weight of group {name!r} is {weight!r}; expected a finite number of at least 0")
    for name, multiple in multiples.items():
        if isinstance(multiple, bool) or not isinstance(multiple, int) or multiple < 1:
            where = f" of group {name!r}" if by_group else ""
            raise InputError(f"multiple_of{where} is {multiple!r}; expected a whole number of at least 1")
    if isinstance(risk, bool) or not isinstance(risk, int | float) or not math.isfinite(risk) or risk < 0:
        raise InputError(f"risk = {risk!r} given; expected a finite number of standard errors, at least 0")


def _ends(found: Offer, width: int, multiple_of: int, ceiling: float, ordered: bool) -> tuple[int, ...]:
    """Channels added after each block: each count that ends at a multiple and brings more than all smaller ones.

    ordered: each that ends at a multiple, whatever it brings.
    """
    ends, best = [0], 0.0
    for count in range(-width % multiple_of or multiple_of, len(found.gain), multiple_of):
        if width + count > ceiling:
            break
        if ordered or found.gain[count] > best:
            ends.append(count)
            best = float(found.gain[count])
    return tuple(ends)
