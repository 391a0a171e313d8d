"""What an allocation came to, in sentences: what is split, what is left of each budget and why it is left."""

from __future__ import annotations

from energysplit.allocation.exhaustive import choices
from energysplit.allocation.problem import Blocks, Problem
from energysplit.allocation.search import Found
from energysplit.costs import amount
from energysplit.kinds import FRESH


def status(problem: Problem, found: Found, how: str) -> str:
    """What happened, in a few sentences.

    Args:
        problem: what was solved.
        found: its solution.
        how: how good it is, or how it was taken, in words.
    """
    blocks = found.blocks
    if not problem.ends:
        return f"{_nothing(problem)}{_left_out(problem)}"
    used = prices_in_words(problem, blocks)
    multiple = " or ".join(str(number) for number in sorted(set(problem.multiples.values())))
    step = "neuron" if multiple == "1" else f"block up to a multiple of {multiple}"
    bought = problem.bought(blocks)
    neurons = sum(len(kinds) for kinds in bought.values())
    if neurons == 0:
        return (
            f"Nothing fits: splitting one more {step} of any group would exceed a budget ({used}).{_left_out(problem)}"
        )
    groups = sum(count > 0 for count in blocks.values())
    fresh = any(FRESH in kinds.values() for kinds in bought.values())
    if blocks == problem.everything:
        rest = f"{_all(problem, fresh)}, what is left of the budgets buys nothing more"
    else:
        rest = f"no further {step} fits"
    if found.all_tried:
        how += f", the best of all {choices(problem):,} choices"
    to_be = "to get a fresh one beside them" if fresh else "to be split"
    return (
        f"{counted(neurons, 'neuron')} of {counted(groups, 'group')} {to_be}, {used}; {rest}; {how}."
        f"{_left_out(problem)}"
    )


def prices_in_words(problem: Problem, blocks: Blocks) -> str:
    """What the network with `blocks` costs under each budget, of its limit."""
    return ", ".join(
        f"{limit.name!r} at {amount(price.value, price.unit)} of {amount(limit.limit, price.unit)}"
        for limit, price in zip(problem.limits, problem.prices(blocks).values(), strict=True)
    )


def _all(problem: Problem, fresh: bool) -> str:
    """What everything there was to buy is."""
    held = ["the bounds on groups"] if problem.bounded else []
    held += ["what was measured"] if problem.unmeasured else []
    held += ["the multiples of widths"] if problem.unaligned else []
    if held:
        return f"all that {' and '.join(held)} allow is bought"
    if fresh:
        return "every neuron gets one" if problem.ordered else "all that are worth having are bought"
    return "every neuron is split" if problem.ordered else "every neuron worth splitting is split"


def _nothing(problem: Problem) -> str:
    """Why there is nothing to buy at all."""
    if problem.short:
        multiple = " or ".join(str(number) for number in sorted(set(problem.multiples.values())))
        which = "neurons" if problem.ordered else "neurons with an index below zero"
        return f"Nothing to split: no group has enough {which} to end at a multiple of {multiple}."
    if problem.still:
        return "Nothing to split that a step would move."
    if problem.bounded:
        return "Nothing to split inside the bounds on groups."
    if problem.unmeasured:
        return "Nothing to split inside what was measured."
    if problem.ordered:
        return "Nothing to split: no neuron of a splittable group has a known index."
    sure = "surely " if problem.unsure else ""
    upper = f", or an upper end {sure}above it" if problem.mass > 1 else ""
    return f"Nothing to split: no neuron of a splittable group has an index {sure}below zero{upper}."


def _left_out(problem: Problem) -> str:
    """What could not take part, and why."""
    text = f" Left out for an unknown (NaN) index: {counted(problem.unknown, 'neuron')}." if problem.unknown else ""
    if problem.unsure:
        text += f" Left out as not surely below zero (risk): {counted(problem.unsure, 'neuron')}."
    if problem.still:
        names = ", ".join(map(repr, sorted(problem.still)))
        text += f" Left out because all their weights, and so their steps, are 0: {names}."
    if problem.bounded:
        text += f" Held by bounds: {', '.join(map(repr, sorted(problem.bounded)))}."
    if problem.unmeasured:
        names = ", ".join(map(repr, problem.unmeasured))
        text += f" Not wider than measured: {names}; {next(iter(problem.unmeasured.values()))}."
    return text


def counted(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
