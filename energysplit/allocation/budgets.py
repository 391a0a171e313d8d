"""Budgets made absolute: a name, a limit in the provider's unit, and what pricing a network against it takes."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from energysplit.costs import NetworkPricer, amount, provider_name
from energysplit.errors import BudgetError, nearest
from energysplit.types import Budget, Cost, Priceable

SCOPES = ("network", "stage")

_FACTOR = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*x\s*")


@dataclass(frozen=True, eq=False)
class Limit:
    """A budget of this allocation: `pricer.value(widths)` may reach `limit`, and not pass it.

    present: the price before any split.
    """

    name: str
    pricer: NetworkPricer
    limit: float
    present: Cost

    @cached_property
    def scale(self) -> float:
        """What prices are divided by to compare budgets of different units: the room left, or the limit if none is."""
        room = self.limit - self.present.value
        return room if room > 0 else self.limit or 1.0

    def rows(self, widths: Mapping[str, int]) -> list[float]:
        """What must each stay within `limit`: the sum of the layers, or every layer of a maximum."""
        if self.pricer.combine == "max":
            return [cost.value for cost in self.pricer.layers(widths).values()]
        return [self.pricer.value(widths)]


def budget_names(budgets: Sequence[Budget]) -> list[str]:
    """The name of each budget: its provider's, with the scope (and a number) added where several share it.

    Example:
        >>> budget_names([Budget("macs", "2x", "stage"), Budget("macs", 1e6), Budget("params", 100)])
        ['macs:stage', 'macs:network', 'params']
    """
    plain = [provider_name(budget.provider) for budget in budgets]
    shared = Counter(plain)
    scoped = [
        f"{name}:{budget.scope}" if shared[name] > 1 else name for name, budget in zip(plain, budgets, strict=True)
    ]
    total, seen = Counter(scoped), Counter[str]()
    result = []
    for name in scoped:
        seen[name] += 1
        result.append(f"{name}#{seen[name]}" if total[name] > 1 else name)
    return result


def resolve(net: Priceable, budgets: Sequence[Budget], seed_price: Mapping[str, float] | None) -> tuple[Limit, ...]:
    """The budgets with absolute limits, each checked against the price of the network as it is.

    Args:
        net: the network to be grown.
        budgets: at least one.
        seed_price: what "1.5x" with scope "network" multiplies, by budget name or provider name; where it is missing,
            the present price.

    Raises:
        BudgetError: no budget, an unreadable limit or scope, or a limit below the network's present price.
    """
    if not budgets:
        raise BudgetError("no budget given; expected at least one, such as Budget('macs', '1.5x', 'stage')")
    for budget in budgets:
        if not isinstance(budget, Budget):
            raise BudgetError(f"budget {budget!r}: expected a Budget, such as Budget('macs', '1.5x', 'stage')")
        if budget.scope not in SCOPES:
            raise BudgetError(f"scope {budget.scope!r} of a budget: {nearest(str(budget.scope), SCOPES)}")
    names = budget_names(budgets)
    _check_seed_price(seed_price or {}, names, budgets)
    pricers: dict[object, NetworkPricer] = {}
    limits = []
    for name, budget in zip(names, budgets, strict=True):
        # Two budgets of one provider share its prices.
        key: object = budget.provider if isinstance(budget.provider, str) else id(budget.provider)
        pricer = pricers.setdefault(key, NetworkPricer(net, budget.provider))
        present = pricer.price()
        reference = present.value
        if budget.scope == "network" and seed_price:
            reference = seed_price.get(name, seed_price.get(provider_name(budget.provider), reference))
        limit = _absolute(name, budget, reference, pricer.unit)
        if limit < present.value:
            over = present.value - limit
            share = f" ({over / limit:.1%})" if limit > 0 else ""
            raise BudgetError(
                f"budget {name!r}: the limit of {amount(limit, pricer.unit)} is below the price of the network as it "
                f"is, {amount(present.value, pricer.unit)}, by {amount(over, pricer.unit)}{share}; "
                "raise the limit or start from a smaller network"
            )
        limits.append(Limit(name, pricer, limit, present))
    return tuple(limits)


def _absolute(name: str, budget: Budget, reference: float, unit: str) -> float:
    limit = budget.limit
    expected = f"expected a number in {unit}, such as 1.5e8, or a factor such as '1.5x'"
    if isinstance(limit, str):
        match = _FACTOR.fullmatch(limit)
        if match is None:
            raise BudgetError(f"budget {name!r}: limit {limit!r} can't be read; {expected}")
        return float(match[1]) * reference
    if isinstance(limit, bool) or not isinstance(limit, (int, float)):
        raise BudgetError(f"budget {name!r}: limit {limit!r} can't be read; {expected}")
    if not math.isfinite(limit) or limit < 0:
        raise BudgetError(f"budget {name!r}: limit {limit!r} is not a finite number of at least 0; {expected}")
    return float(limit)


def _check_seed_price(seed_price: Mapping[str, float], names: Sequence[str], budgets: Sequence[Budget]) -> None:
    known = {*names, *(provider_name(budget.provider) for budget in budgets)}
    for name, value in seed_price.items():
        if name in known and not (math.isfinite(value) and value >= 0):
            raise BudgetError(f"seed price of {name!r} is {value!r}; expected a finite number of at least 0")
