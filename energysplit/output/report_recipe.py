"""The part of a report that holds the recipe: every option as it was in force, limits with their units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from energysplit.amounts import factor
from energysplit.output.document import Facts, Section
from energysplit.output.numbers import compact, provider_name, quantity
from energysplit.output.report_tables import growths
from energysplit.recipe.changed import RecipeChange
from energysplit.recipe.keys import value_at
from energysplit.records import GrowthRecord


def recipe_section(
    recipe: Mapping[str, Any],
    records: Sequence[GrowthRecord],
    environment: Mapping[str, str],
    title: str,
    changes: Sequence[RecipeChange] = (),
) -> Section:
    """What was asked for, and where it ran.

    Args:
        recipe: resolved recipe; what it lacks is said to be not recorded.
        records: journal; the units of limits are those of its prices.
        environment: name -> version or machine.
        title: what `environment` describes.
        changes: of the recipe, while the run went on: what is shown holds for the last stage.
    """
    units = {name: cost.unit for record in records for name, cost in record.prices.items()}
    units |= {name: cost.unit for _, growth in growths(records) for name, cost in growth.allocation.price.items()}

    def get(path: str) -> Any:
        value = value_at(recipe, path)
        return "not recorded" if value is None else value

    def options(value: Any) -> str:
        if not isinstance(value, Mapping):
            return str(value)
        return ", ".join(f"{key} = {_plain(item)}" for key, item in value.items() if item is not None) or "defaults"

    limits = [f"{_named(budget, options)} at most {_limit(budget, units)}" for budget in recipe.get("budget") or ()]
    shown = (recipe.get("report") or {}).get("price") or ()
    prices = [f"{price['name']}: {price['provider']} ({options(price.get('options') or {})})" for price in shown]
    further = [("Further prices", "; ".join(prices))] if prices else []
    hardware = recipe.get("hardware") or {}
    baseline = recipe.get("baseline")
    if baseline:
        limits = ["the prices of the reference run's stages"]
    device = [("Device", options(hardware))] if hardware.get("profile") or hardware.get("tables") else []
    changed = [f"from stage {change.stage} on {', '.join(change.values)}" for change in changes]
    facts = [
        ("Recipe", str(get("name"))),
        *([("Changed on the way", f"{'; '.join(changed)}. Below: the last stage's values")] if changed else []),
        ("Seed of all randomness", str(get("seed"))),
        ("Model", f"{get('model.name')} ({options(get('model.args'))})"),
        ("Data", options(get("data"))),
        ("Training of each stage", options(get("train"))),
        ("Growth", options(get("growth"))),
        *([("Baseline", options(baseline))] if baseline else []),
        *device,
        ("Budgets", "; ".join(limits) or "not recorded"),
        *further,
        ("Step", options(get("step"))),
        ("Where", options(get("run"))),
        (title, ", ".join(f"{name} {value}" for name, value in environment.items())),
    ]
    return Section("What was run", (Facts(tuple(facts)),))


def _named(budget: Mapping[str, Any], words: Callable[[Any], str]) -> str:
    """A budget's price with the options of its provider."""
    name, given = provider_name(str(budget["provider"])), budget.get("options")
    return f"{name} ({words(given)})" if given else name


def _limit(budget: Mapping[str, Any], units: Mapping[str, str]) -> str:
    """A budget's limit and what it holds for. units: of prices, by name, as far as they are known."""
    limit, scope = budget["limit"], budget["scope"]
    scoped = "in all" if scope == "network" else "each stage"
    if isinstance(limit, str):
        if factor(limit) is None:
            return f"{limit}, {scoped}"
        base = "the seed's" if scope == "network" else "the present network's, each stage"
        return f"{limit.replace('x', '×')} {base}"
    unit = next((units[name] for name in (budget["provider"], f"{budget['provider']}:{scope}") if name in units), None)
    if unit is not None:
        return f"{quantity(limit, unit)}, {scoped}"
    return f"{compact(limit) if limit >= 1 else f'{limit:g}'}, {scoped}"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
