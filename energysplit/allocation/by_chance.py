"""Neurons in a random order, whatever they bring: what choices by splitting indices are compared with.

Every neuron whose index is known has the same chance to be asked next; it is taken if the re-priced network stays
inside every budget. Neurons with an index above zero are taken as well: that is the point. Where widths become
multiples, a neuron that is taken brings as many of its group with it as fill the block, the next ones in the order.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from energysplit.allocation.problem import Blocks, Problem
from energysplit.types import Priceable, SplitIndex

Order = list[tuple[str, int]]
"""Group and number of neurons, one after the other."""


def shuffled(net: Priceable, index: Mapping[str, SplitIndex], seed: int) -> Order:
    """The neurons of all groups that can be split, in a random order that is the same for a seed.

    Neurons whose index is NaN or infinite are left out: what a choice with them would bring can't be said.
    """
    every = [
        (name, neuron)
        for name, group in net.groups.items()
        if group.splittable and name in index
        for neuron, value in enumerate(index[name].value.tolist())
        if math.isfinite(value)
    ]
    random.Random(seed).shuffle(every)
    return every


def by_group(order: Order) -> dict[str, list[int]]:
    """Group -> its neurons, in the order."""
    found: dict[str, list[int]] = {}
    for name, neuron in order:
        found.setdefault(name, []).append(neuron)
    return found


def take(problem: Problem, order: Order) -> Blocks:
    """Blocks in the order, each if it fits, again from the front until no further one of any group does.

    Args:
        problem: built with the neurons of each group in this order.
        order: of all neurons.
    """
    blocks, ledger = problem.nothing, problem.ledger(problem.nothing)
    turns = _ranked(problem, order)
    while True:
        before = dict(blocks)
        for name, rank in turns:
            count = blocks[name]
            # Those that filled an earlier neuron's block have had their turn.
            if count == problem.most(name) or rank < problem.ends[name][count]:
                continue
            width = problem.width(name, count + 1)
            after = ledger.after(name, width)
            if all(value <= limit.limit for value, limit in zip(after, problem.limits, strict=True)):
                blocks[name] += 1
                ledger.set(name, width)
        # Prices with steps can fall: what did not fit before may fit now.
        if blocks == before:
            return blocks


def _ranked(problem: Problem, order: Order) -> Sequence[tuple[str, int]]:
    """Group and place within it of every neuron, for the groups of which something can be bought."""
    ranks = {name: {neuron: rank for rank, neuron in enumerate(own)} for name, own in by_group(order).items()}
    return [(name, ranks[name][neuron]) for name, neuron in order if name in problem.ends]
