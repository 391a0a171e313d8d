"""A weighted sum of other providers, so that one budget or one objective can trade one cost for another.

cost_provider("weighted", parts={"latency": 0.5, "macs": 1e-9}, profile="x86_avx512_2core")
cost_provider("weighted", parts={"energy": {"weight": 1.0, "profile": "stm32l4r5"}, "params": 1e-6})
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from energysplit.costs.network_price import network_error_of, overhead_of
from energysplit.costs.registry import cost_provider, register_cost, takes
from energysplit.costs.table import Provenance
from energysplit.errors import InputError
from energysplit.types import ORIGINS, WEIGHTLESS, Combine, Cost, CostProvider, LayerCase


class Part(NamedTuple):
    """One term of the sum."""

    name: str
    weight: float
    provider: CostProvider


@register_cost("weighted")
class Weighted:
    """The sum of `weight` times the price, over its parts.

    Args:
        parts: provider -> weight, or -> a table {weight = ..., and the provider's own options}. With the option
            `provider`, the key is a free label, so that one provider can be in the sum twice.
        profile: a hardware profile, handed to the parts that take one and have none of their own.

    Unit: the parts' common unit, or "score" where they differ (a weight then converts: score per unit).
    Combine: the parts' own. With "max", the price is the largest weighted sum of any one operation.
    Multiples: the least common one of what the parts say, kind by kind.
    Error: the parts' intervals, weighted and added. Where all parts know their error over whole networks, the largest
    of these errors bounds the sum's.

    Raises:
        InputError: no parts, a weight that is no finite number of at least 0, weights that are all 0, parts that add up
            and parts that are compared in one sum, or what a part's own provider refuses.
    """

    def __init__(self, parts: Mapping[str, Any], profile: object = None) -> None:
        if not isinstance(parts, Mapping) or not parts:
            raise InputError(
                f"cost 'weighted': parts = {parts!r}, expected at least one provider with its weight, such as "
                '{"latency": 0.5, "macs": 1e-9}'
            )
        self._parts = [_part(name, said, profile) for name, said in parts.items()]
        if not any(part.weight for part in self._parts):
            raise InputError(f"cost 'weighted': all weights are 0 ({', '.join(parts)}); expected one above 0")
        combines: dict[str, Combine] = {part.name: getattr(part.provider, "combine", "sum") for part in self._parts}
        if len(set(combines.values())) > 1:
            said = ", ".join(f"{name}: {combine}" for name, combine in combines.items())
            raise InputError(
                f"cost 'weighted': layers add up in some parts and are compared in others ({said}); expected one kind. "
                "Give each kind a budget of its own"
            )
        units = {part.provider.unit for part in self._parts}
        self.unit = units.pop() if len(units) == 1 else "score"
        self.combine: Combine = next(iter(combines.values()))
        self.every_operation = any(_sees_all(part.provider) for part in self._parts)
        overheads = [(part, overhead_of(part.provider)) for part in self._parts]
        terms = [(part, cost) for part, cost in overheads if cost is not None]
        self.overhead: Cost | None = self._sum(terms) if terms else None
        errors = [network_error_of(part.provider, part.name) for part in self._parts if part.weight]
        known = [error for error in errors if error is not None]
        self.network_error: float | None = max(known) if len(known) == len(errors) else None
        weighing = [part.provider for part in self._parts if part.weight]
        self.multiple_of = _multiple(weighing)
        tables = {table for provider in weighing if (table := getattr(provider, "provenance", None)) is not None}
        self.provenance: Provenance | None = tables.pop() if len(tables) == 1 else None

    def price(self, case: LayerCase) -> Cost:
        """The weighted sum of the parts' prices; parts that know only layers with weights have no say in others."""
        asked = [part for part in self._parts if case.op not in WEIGHTLESS or _sees_all(part.provider)]
        return self._sum([(part, part.provider.price(case)) for part in asked])

    def _sum(self, terms: list[tuple[Part, Cost]]) -> Cost:
        for part, cost in terms:
            if cost.unit != part.provider.unit:
                raise InputError(
                    f"cost 'weighted', part {part.name!r}: price is in {cost.unit!r}, but the provider's unit is "
                    f"{part.provider.unit!r}"
                )
            if cost.source.split(":")[0] not in ORIGINS:
                raise InputError(
                    f"cost 'weighted', part {part.name!r}: the price's source is {cost.source!r}, expected it to begin "
                    f"with one of {', '.join(ORIGINS)}"
                )
        value, low, high = (
            math.fsum(part.weight * getattr(cost, end) for part, cost in terms) for end in ("value", "low", "high")
        )
        known = [cost.source.split(":")[0] for _, cost in terms]
        origin = max(known, key=ORIGINS.index, default="counted")
        said = " + ".join(f"{part.weight:g} x {part.name} ({cost.source})" for part, cost in terms)
        return Cost(value, self.unit, low, high, f"{origin}: {said or 'no part prices this operation'}")


def _part(name: str, said: Any, profile: object) -> Part:
    options = dict(said) if isinstance(said, Mapping) else {"weight": said}
    weight = options.pop("weight", None)
    kind = options.pop("provider", name)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight) or weight < 0:
        raise InputError(
            f"cost 'weighted', part {name!r}: weight is {weight!r}, expected a finite number of at least 0, such as "
            f"{{{name} = 0.5}} or {{{name} = {{weight = 0.5}}}}"
        )
    if profile is not None and "profile" not in options and isinstance(kind, str) and takes(kind, "profile"):
        options["profile"] = profile
    return Part(name, float(weight), cost_provider(kind, **options))


def _sees_all(provider: CostProvider) -> bool:
    return bool(getattr(provider, "every_operation", False))


def _multiple(providers: list[CostProvider]) -> int | dict[str, int] | None:
    """The least common multiple of what the providers say, by kind of layer where one of them says it so."""
    said = [found for provider in providers if (found := getattr(provider, "multiple_of", None))]
    if not said:
        return None
    tables: list[dict[str, int]] = [dict(one) if isinstance(one, Mapping) else {"default": int(one)} for one in said]
    kinds = sorted({"default", *(kind for table in tables for kind in table)})
    common = {kind: math.lcm(*(table.get(kind, table.get("default", 1)) for table in tables)) for kind in kinds}
    return common if any(isinstance(one, Mapping) for one in said) else common["default"]
