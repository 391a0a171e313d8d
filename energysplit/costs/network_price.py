"""The price of a whole network, and of one more neuron, from the prices of its layers.

A neuron is priced by the difference of two whole-network prices, so its own row, its followers and its consumers'
columns are all in it. Growth asks for thousands of such prices that differ in two or three layers; `NetworkPricer`
asks the provider only for layer cases it has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from numbers import Real

from energysplit.costs.registry import cost_provider, provider_name
from energysplit.errors import EnergysplitError, InputError, NotMeasured, nearest
from energysplit.types import Cost, CostProvider, LayerCase, Priceable, check_traced

# Prefixes of what is measured, for amounts below one; what is counted has no thousandths.
_MEASURED, _SMALL = ("s", "J"), ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))

# Values of layers kept by their widths; a bound on memory (some 200 bytes each), far above what allocations ask for.
_KEPT_VALUES = 2_000_000


class NetworkPricer:
    """Prices one network at any widths with one provider.

    Args:
        net: the network; only what `Priceable` has is used: of `operations` where the provider prices every one, of
            `cases` elsewhere.
        provider: an object with `price`, or a name `cost_provider` knows.

    Raises:
        InputError: an unknown provider, or an `overhead` or `network_error` that is none.
    """

    def __init__(self, net: Priceable, provider: str | CostProvider) -> None:
        check_traced(net)
        self.net = net
        self.provider = cost_provider(provider)
        self.name = provider_name(provider)
        self.unit = self.provider.unit
        self.combine = getattr(self.provider, "combine", "sum")
        self._operations = bool(getattr(self.provider, "every_operation", False))
        self._cases = net.operations if self._operations else net.cases
        self._overhead = overhead_of(self.provider)
        self._network_error = network_error_of(self.provider, self.name)
        self._present = dict(net.widths)
        self._costs: dict[LayerCase, Cost] = {}
        self._values: dict[tuple[object, ...], float] = {}

    @cached_property
    def follows(self) -> dict[str, tuple[str, ...]]:
        """Layer name -> the groups whose widths its price depends on."""
        return self.net.follows(self._operations)

    def layers(self, widths: Mapping[str, int] | None = None) -> dict[str, Cost]:
        """Layer name -> price of that layer, at the present widths or at others.

        Raises:
            InputError: the provider gave no finite price of at least 0 in its unit, or a width is not a whole number.
        """
        cases = self._cases() if widths is None else self._cases(self._full(widths))
        return {name: self._layer(name, case) for name, case in cases.items()}

    def price(self, widths: Mapping[str, int] | None = None) -> Cost:
        """The price of the network: the sum of its layers, or the largest where the provider's `combine` is "max".

        Intervals add up end to end (worst case), unless the provider knows the error of whole networks; sources that
        differ are joined.
        """
        costs = list(self.layers(widths).values())
        if not costs:
            return Cost.exact(0.0, self.unit, "counted: no layers")
        if self._overhead is not None:
            costs.append(self._overhead)
        if self.combine == "max":
            largest = max(costs, key=lambda cost: cost.value)
            low, high = max(cost.low for cost in costs), max(cost.high for cost in costs)
            return Cost(float(largest.value), self.unit, float(low), float(high), largest.source)
        source = " + ".join(dict.fromkeys(cost.source for cost in costs))
        # fsum does not depend on the order of the layers, so equal networks have equal prices to the last bit.
        value, low, high = (math.fsum(getattr(cost, part) for cost in costs) for part in ("value", "low", "high"))
        if self._network_error is not None:
            low, high = value * max(0.0, 1 - self._network_error), value * (1 + self._network_error)
        return Cost(value, self.unit, low, high, source)

    def value(self, widths: Mapping[str, int]) -> float:
        """`price(widths).value`, from remembered layers."""
        full = self._full(widths)
        return self.total(self.layer_value(name, full) for name in self.follows)

    def total(self, layers: Iterable[float]) -> float:
        """The price of a network from those of all its layers."""
        values = list(layers)
        if self._overhead is not None and values:
            values.append(self._overhead.value)
        # Plus 0.0: no layers cost 0, not -0.
        return (max(values, default=0.0) if self.combine == "max" else math.fsum(values)) + 0.0

    def layer_value(self, name: str, widths: Mapping[str, int]) -> float:
        """The price of one layer; `widths` needs the groups that it follows."""
        key = (name, *[widths[group] for group in self.follows[name]])
        known = self._values.get(key)
        if known is None:
            if len(self._values) >= _KEPT_VALUES:
                self._values.clear()
            known = self._layer(name, self.net.case(name, widths, self._operations)).value
            self._values[key] = known
        return known

    def marginal(self, widths: Mapping[str, int], group: str, count: int = 1) -> float:
        """The price of `count` more neurons in `group`, other groups as in `widths`; below 0 where a table falls.

        Raises:
            InputError: the network has no such group.
        """
        if group not in self._present:
            raise InputError(f"no group {group!r} in this network; {nearest(group, self._present)}")
        full = {**self._present, **widths}
        return self.value({**full, group: full[group] + count}) - self.value(full)

    def _full(self, widths: Mapping[str, int]) -> dict[str, int]:
        for name, width in widths.items():
            if name not in self._present:
                raise InputError(f"no group {name!r} in this network; {nearest(name, self._present)}")
            if isinstance(width, bool) or not isinstance(width, int) or width < 1:
                raise InputError(f"group {name!r}: width {width!r} given, a whole number of at least 1 expected")
        return {**self._present, **widths}

    def _layer(self, name: str, case: LayerCase) -> Cost:
        cost = self._costs.get(case)
        if cost is None:
            try:
                cost = self.provider.price(case)
            except (EnergysplitError, MemoryError):
                raise
            except Exception as error:  # whatever a user's provider raises
                raise InputError(
                    f"cost provider {self.name!r}, layer {name!r}: {type(error).__name__}: {error} ({case}); a case "
                    "without a price is said by raising energysplit.NotMeasured, which growth then stays below"
                ) from error
            self._check(cost, name, case)
            self._costs[case] = cost
        return cost

    def _check(self, cost: object, name: str, case: LayerCase) -> None:
        where = f"cost provider {self.name!r}, layer {name!r}"
        said = _wrong(cost, self.unit, "price", "a case that can't be priced must raise an error that says so")
        if said:
            raise InputError(f"{where}: {said} ({case})")


def overhead_of(provider: CostProvider) -> Cost | None:
    """What a network pays once, whatever its layers; None if nothing.

    Raises:
        InputError: it is no finite `Cost` in the provider's unit inside its own interval; or the provider's layers are
            compared, not added, so there is nothing to add it to.
    """
    overhead: Cost | None = getattr(provider, "overhead", None)
    if overhead is None:
        return None
    if getattr(provider, "combine", "sum") == "max":
        raise InputError(f"{type(provider).__name__}: `overhead` given with combine = 'max'; leave one of them out")
    said = _wrong(overhead, provider.unit, "overhead", "None where a network pays nothing once")
    if said:
        raise InputError(f"cost provider {provider_name(provider)!r}: {said}")
    return overhead


def network_error_of(provider: CostProvider, name: str) -> float | None:
    """The provider's relative error over whole networks; None if it knows none.

    Raises:
        InputError: it is no finite number of at least 0.
    """
    error = getattr(provider, "network_error", None)
    if error is None:
        return None
    if isinstance(error, bool) or not isinstance(error, int | float) or not math.isfinite(error) or error < 0:
        raise InputError(
            f"cost provider {name!r}: network_error is {error!r}, expected a finite number of at least 0, such as 0.03 "
            "for 3 %; None where it is not known"
        )
    return float(error)


def _wrong(cost: object, unit: str, what: str, otherwise: str) -> str:
    """What is wrong with a `Cost` of a provider; "" if nothing is."""
    if not isinstance(cost, Cost):
        return f"{what} is {cost!r}, expected a Cost such as Cost.exact(1.0, {unit!r})"
    if cost.unit != unit:
        return f"{what} is in {cost.unit!r}, but the provider's unit is {unit!r}"
    for part in ("value", "low", "high"):
        number = getattr(cost, part)
        if not isinstance(number, Real) or not math.isfinite(number) or number < 0:
            return f"the {what}'s {part} is {number!r}, expected a finite number of at least 0; {otherwise}"
    if not cost.low <= cost.value <= cost.high:
        return f"the {what} {cost.value!r} is outside its own interval, {cost.low!r} to {cost.high!r}"
    return ""


def price(net: Priceable, provider: str | CostProvider, widths: Mapping[str, int] | None = None) -> Cost:
    """The price of the network at its present widths, or at others (groups left out keep theirs).

    Raises:
        InputError: unknown provider or group, a width below 1, or a price the provider could not give.
    """
    return NetworkPricer(net, provider).price(widths)


def marginal_price(net: Priceable, provider: str | CostProvider) -> dict[str, float]:
    """Group -> price of one more neuron there: the difference of two whole-network prices, in the provider's unit.

    Complete: own row, followers and the consumers' columns. Groups that can't be split (the classes) have a price too,
    but where it was never measured, which is no loss: nothing grows there.

    Raises:
        NotMeasured: a group that can be split is as wide as a table reaches.
    """
    pricer = NetworkPricer(net, provider)
    present, found = dict(net.widths), {}
    for name in present:
        try:
            found[name] = pricer.marginal(present, name)
        except NotMeasured:
            if net.groups[name].splittable:
                raise
    return found


def amount(value: float, unit: str) -> str:
    """A price for a sentence: large and whole numbers to the unit, others to six digits, seconds and joules prefixed.

    Example:
        >>> amount(568_740_352, "MAC"), amount(0.00123456789, "s"), amount(2.5, "J")
        ('568,740,352 MAC', '1.23457 ms', '2.5 J')
    """
    if abs(value) >= 1e15:
        return f"{value:.6g} {unit}"
    if float(value).is_integer():
        return f"{value:,.0f} {unit}"
    if unit in _MEASURED and abs(value) < 1:
        # 0.9999999 ms would be printed as 1000 µs: take the prefix of what is printed.
        factor, prefix = next(((f, p) for f, p in _SMALL if abs(value) >= f * (1 - 5e-7)), _SMALL[-1])
        return f"{value / factor:.6g} {prefix}{unit}"
    return f"{value:,.1f} {unit}" if abs(value) >= 1e5 else f"{value:,.6g} {unit}"
