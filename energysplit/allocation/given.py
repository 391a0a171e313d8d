"""Sizes given from outside: so many neurons of each group, and only which ones is left to choose.

With the sizes of another choice, what two ways of choosing neurons are worth can be told apart from what the sizes of
the layers are worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from energysplit.allocation.by_chance import by_group, shuffled
from energysplit.allocation.problem import Problem, build
from energysplit.allocation.solve import unbounded
from energysplit.allocation.status import counted, prices_in_words
from energysplit.costs import amount
from energysplit.errors import BudgetError, InputError
from energysplit.types import SIZES_BEST, SIZES_RANDOM, Allocation, Budget, Priceable, SplitIndex


def allocate_given(
    net: Priceable,
    index: Mapping[str, SplitIndex],
    budgets: Sequence[Budget],
    sizes: Mapping[str, int],
    *,
    at_random: bool = False,
    said: str = "",
    weights: Mapping[str, float] | None = None,
    seed_price: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Allocation:
    """So many neurons of each group: those with the smallest indices, or random ones, whatever they bring.

    Args:
        net: the network as it is.
        index: group -> splitting indices.
        budgets: checked, not used up.
        sizes: group -> neurons to split; none of the groups left out.
        at_random: whether chance chooses in place of the indices.
        said: whose sizes these are, for messages.
        weights: see `allocate`.
        seed_price: see `allocate`.
        seed: of the random order.

    Returns:
        The allocation; `gap` and `shadow_price` are NaN, for nothing was optimised. `predicted_gain` may be negative.

    Raises:
        InputError: a group is not the network's, or has fewer neurons with a known index than are to be split.
        BudgetError: the network would exceed a budget.
    """
    wanted = {name: count for name, count in sizes.items() if count}
    order = by_group(shuffled(net, index, seed))
    if not at_random:
        order = {name: sorted(own, key=index[name].value.tolist().__getitem__) for name, own in order.items()}
    for name, count in wanted.items():
        if count < 0 or count > len(order.get(name, ())):
            raise InputError(
                f"group {name!r} can't be split {counted(count, 'time')}{said and f', as {said}'}: "
                f"{counted(len(order.get(name, ())), 'neuron')} of it can be split once each; give sizes that fit this "
                "network and its indices"
            )
    problem = build(net, index, budgets, weights=weights, seed_price=seed_price, order=order)
    for name, count in wanted.items():
        if name in problem.still:
            raise InputError(
                f"group {name!r} can't be split{said and f', as {said}'}: its weight is 0, so a step relative to its "
                "weights, which are all 0, would not part the copies; use step.policy = 'fixed'"
            )
        if count > (problem.most(name) if name in problem.ends else 0):
            raise InputError(f"group {name!r}{said and f', as {said}'}: {problem.unmeasured[name]}")
    blocks = {**problem.nothing, **wanted}
    _check_budgets(problem, blocks, said)
    neurons = sum(wanted.values())
    how = "random ones" if at_random else "those with the smallest indices"
    text = f"Nothing to split{said and f', as {said}'}."
    if neurons:
        text = (
            f"{counted(neurons, 'neuron')} of {counted(len(wanted), 'group')} to be split"
            f"{said and f', as many as {said}'}, {prices_in_words(problem, blocks)}; {how}, whatever they bring."
        )
    return unbounded(problem, blocks, SIZES_RANDOM if at_random else SIZES_BEST, text)


def _check_budgets(problem: Problem, blocks: Mapping[str, int], said: str) -> None:
    """Refuse sizes that no choice of neurons brings inside the budgets."""
    for limit in problem.limits:
        price = limit.pricer.price(problem.widths_at(blocks))
        if price.value > limit.limit:
            raise BudgetError(
                f"budget {limit.name!r}: the sizes given{said and f', as {said},'} cost "
                f"{amount(price.value, price.unit)}, more than the limit of {amount(limit.limit, price.unit)}; raise "
                "the limit, or give the sizes of a run inside it"
            )
