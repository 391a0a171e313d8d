"""Budgets made absolute: a name, a limit in the provider's unit, and what pricing a network against it takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from energysplit.amounts import expected_limit, factor, parse_limit
from energysplit.costs import NetworkPricer, amount, provider_name
from energysplit.errors import BudgetError, InputError, nearest
from energysplit.types import Budget, Cost, CostProvider, Priceable

SCOPES = ("network", "stage")

_NO_ROOM = 1e-9  # of a limit
_FACTORS = (1.0, 20.0)  # a limit without a unit is probably a factor in this range ...
_FAR_BELOW = 1000.0  # ... where the price is so many times as large
_LARGEST_SHARE = 10.0  # of a limit, said in percent; larger ones say nothing


@dataclass(frozen=True, eq=False)
class Limit:
    """A budget of this allocation: `pricer.value(widths)` may reach `limit`, and not pass it.

    present: the price before any split. said: what the limit is where it is no amount, such as "1.5x of the seed's".
    """

    name: str
    pricer: NetworkPricer
    limit: float
    present: Cost
    said: str = ""

    @cached_property
    def scale(self) -> float:
        """What prices are divided by to compare budgets of different units: the room left, or the limit if none is.

        Room that is rounding only is none: fractions of it are numbers no solver takes.
        """
        room = self.limit - self.present.value
        return room if room > _NO_ROOM * self.limit else self.limit or 1.0


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
        BudgetError: no budget, an unknown provider, an unreadable limit or scope, a unit that is not the provider's,
            limits below the network's present price (all of them in one message), or a limit of a stage above that of
            the whole network.
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
    limits, at_seed = [], []
    for name, budget in zip(names, budgets, strict=True):
        key = _key(budget.provider)
        if key not in pricers:
            with naming(name):
                pricers[key] = NetworkPricer(net, budget.provider)
        pricer = pricers[key]
        present = pricer.price()
        seed = _seed_price(name, budget, seed_price or {}, names, budgets, present.value)
        at_seed.append(_absolute(name, budget, seed, pricer.unit))
        reference = seed if budget.scope == "network" else present.value
        limit = _absolute(name, budget, reference, pricer.unit)
        limits.append(Limit(name, pricer, limit, present, _said(budget, seed != present.value)))
    _check_present(limits, budgets)
    _check_scopes(limits, budgets, at_seed)
    return tuple(limits)


@contextmanager
def naming(budget: str) -> Iterator[None]:
    """Puts the budget's name before what is said about its provider.

    Raises:
        BudgetError: the block raised an `InputError` of no kind of its own, such as for an unknown provider.
    """
    try:
        yield
    except InputError as error:
        if type(error) is not InputError:
            raise
        raise BudgetError(f"budget {budget!r}: {error}") from error


def _key(provider: str | CostProvider) -> object:
    """The same for two budgets of one provider, which then share its prices."""
    return provider if isinstance(provider, str) else id(provider)


def _absolute(name: str, budget: Budget, reference: float, unit: str) -> float:
    limit = budget.limit
    expected = f"expected a number in {unit}, or text {expected_limit(unit).removeprefix('expected ')}"
    if isinstance(limit, str):
        try:
            times = factor(limit)
            absolute = parse_limit(limit, unit) if times is None else _times(times, reference)
        except BudgetError as error:
            raise BudgetError(f"budget {name!r}: {error}") from None
    elif isinstance(limit, bool) or not isinstance(limit, (int, float)):
        raise BudgetError(f"budget {name!r}: limit {limit!r} can't be read; {expected}")
    else:
        absolute = float(limit)
    if not math.isfinite(absolute) or absolute < 0:
        raise BudgetError(f"budget {name!r}: limit {limit!r} is not a finite number of at least 0; {expected}")
    return absolute


def _times(factor: float, reference: float) -> float:
    """The product, rounded once from the decimal factor: 1.15 times 100 is 115; infinite where it is too large."""
    try:
        return float(Fraction(repr(factor)) * Fraction(reference))
    except OverflowError:
        return math.inf


def _said(budget: Budget, grown: bool) -> str:
    """What a factor multiplies, where that is not the present price; "" for amounts."""
    if not grown or budget.scope != "network" or not isinstance(budget.limit, str) or factor(budget.limit) is None:
        return ""
    return f" ({budget.limit.strip()} of the seed's price)"


def _seed_price(
    name: str,
    budget: Budget,
    seed_price: Mapping[str, float],
    names: Sequence[str],
    budgets: Sequence[Budget],
    present: float,
) -> float:
    """The seed's price, said for this budget, or for its provider, or for another budget of the same provider."""
    others = [other for other, one in zip(names, budgets, strict=True) if _key(one.provider) == _key(budget.provider)]
    known = [seed_price[word] for word in (name, provider_name(budget.provider), *others) if word in seed_price]
    return known[0] if known else present


def _check_present(limits: Sequence[Limit], budgets: Sequence[Budget]) -> None:
    """Refuse limits that the network passes before it has grown: each by how much, and which is passed most.

    Args:
        limits: by budget.
        budgets: in the same order.

    Raises:
        BudgetError: there are some.
    """
    passed = [limit for limit in limits if limit.limit < limit.present.value]
    if not passed:
        return
    meant = {limit.name: _meant(limit, budget) for limit, budget in zip(limits, budgets, strict=True)}
    if len(passed) == 1:
        raise BudgetError(
            f"budget {passed[0].name!r}: the limit of {amount(passed[0].limit, passed[0].pricer.unit)}"
            f"{passed[0].said} is below the price of the network as it is, {_excess(passed[0])}; "
            f"{meant[passed[0].name] or 'raise the limit or start from a smaller network'}"
        )
    worst = max(passed, key=lambda limit: limit.present.value / limit.limit if limit.limit > 0 else math.inf)
    each = "; ".join(
        f"{limit.name!r}: limit {amount(limit.limit, limit.pricer.unit)}{limit.said}, price {_excess(limit)}"
        + (f", {meant[limit.name]}" if meant[limit.name] else "")
        for limit in passed
    )
    raise BudgetError(
        f"{len(passed)} of {len(limits)} budgets are below the price of the network as it is: {each}; "
        f"{worst.name!r} binds most; raise these limits or start from a smaller network"
    )


def _excess(limit: Limit) -> str:
    """The present price, and by how much it passes the limit."""
    over, unit = limit.present.value - limit.limit, limit.pricer.unit
    share = f" ({over / limit.limit:.1%})" if 0 < over <= _LARGEST_SHARE * limit.limit else ""
    return f"{amount(limit.present.value, unit)}, by {amount(over, unit)}{share}"


def _meant(limit: Limit, budget: Budget) -> str:
    """The factor that was probably meant by a number without a unit, far below the price; "" elsewhere."""
    said = str(budget.limit).strip()
    try:
        float(said)
    except ValueError:  # it has a unit, or is a factor
        return ""
    low, high = _FACTORS
    likely = low <= limit.limit <= high and limit.present.value >= _FAR_BELOW * limit.limit
    return f"did you mean {f'{said}x'!r}?" if likely else ""


def _check_scopes(limits: Sequence[Limit], budgets: Sequence[Budget], at_seed: Sequence[float]) -> None:
    """Refuse a limit of a stage that the limit of the whole growth makes void from the first stage on.

    Args:
        limits: by budget.
        budgets: in the same order.
        at_seed: limits in the same order, factors taken from the seed's price.

    Raises:
        BudgetError: a budget of scope "stage" is above one of scope "network" of the same provider.
    """
    said = list(zip(limits, budgets, at_seed, strict=True))
    for limit, stage, of_stage in said:
        for other, network, of_network in said:
            if (stage.scope, network.scope) != ("stage", "network") or _key(stage.provider) != _key(network.provider):
                continue
            if of_stage > of_network:
                unit = limit.pricer.unit
                raise BudgetError(
                    f"budget {limit.name!r}: {amount(of_stage, unit)} for the first stage is above "
                    f"{amount(of_network, unit)} for the whole growth ({other.name!r}), so it would never count; "
                    "lower the limit of scope 'stage', raise that of scope 'network', or leave one out"
                )


def _check_seed_price(seed_price: Mapping[str, float], names: Sequence[str], budgets: Sequence[Budget]) -> None:
    known = {*names, *(provider_name(budget.provider) for budget in budgets)}
    for name, value in seed_price.items():
        if name in known and not (math.isfinite(value) and value >= 0):
            raise BudgetError(f"seed price of {name!r} is {value!r}; expected a finite number of at least 0")
