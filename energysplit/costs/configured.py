"""Cost providers made for a device: the one place where a recipe's [hardware], or the command line's, meets them.

A provider is handed what its constructor takes and nothing else, so that `macs` needs no profile and a class of the
user's own may take one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from energysplit.costs.latency import TABLES
from energysplit.costs.registry import cost_provider, takes
from energysplit.errors import MeasuredElsewhere
from energysplit.hardware import load
from energysplit.recipe import HardwareRecipe
from energysplit.types import CostProvider


def configured(
    name: str, hardware: HardwareRecipe | None = None, options: Mapping[str, Any] | None = None
) -> CostProvider:
    """The cost provider of that name, on that device.

    Energies are taken from the device's table where it has some, and from its profile where that has some.

    Args:
        name: a registered name or "module:Class".
        hardware: profile, tables and strictness; each is handed over if the provider takes it. Tables belong to a
            profile: where `options` name another one, those of `hardware` are left out.
        options: arguments of the provider; they go before `hardware`.

    Raises:
        InputError: unknown name, options the provider does not take, or what the provider itself refuses.
    """
    given = dict(options or {})
    if name == "weighted" and isinstance(given.get("parts"), Mapping):
        own = {key: value for key, value in given.items() if key != "parts"}
        given["parts"] = {label: _part(label, said, hardware, own) for label, said in given["parts"].items()}
    return cost_provider(name, **{**_arguments(name, hardware, given), **given})


@contextmanager
def said_of_tables() -> Iterator[list[str]]:
    """The list that warnings of tables measured elsewhere are put in, once the block ends; other warnings pass."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MeasuredElsewhere)
        yield said
    for warning in caught:
        if issubclass(warning.category, MeasuredElsewhere):
            said.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _arguments(name: str, hardware: HardwareRecipe | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """What [hardware] adds to the options of a provider."""
    if hardware is None:
        return {}
    found: dict[str, Any] = {"profile": hardware.profile, "tables": hardware.tables, "strict": hardware.strict or None}
    if "profile" in given:
        del found["tables"]
    found = {key: value for key, value in found.items() if value is not None and key not in given and takes(name, key)}
    return _energy(found, given) if name == "energy" else found


def _energy(found: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The same for energies, which a device may have in its table, in its profile, in both, or in neither."""
    profile = given.get("profile", found.get("profile"))
    if profile is None or "tables" in given:
        return found
    device = load(profile)
    tables = Path(found.get("tables", TABLES / device.name))
    estimated = {key: value for key, value in found.items() if key != "tables"}
    if not any(tables.glob("energy-*.csv")):
        return estimated
    if "profile" in found and device.arithmetic(given.get("precision")).energy is None:
        del estimated["profile"]
    return {**estimated, "tables": str(tables)}


def _part(label: str, said: Any, hardware: HardwareRecipe | None, own: Mapping[str, Any]) -> Any:
    """A term of a weighted sum with what [hardware] adds to it; what is no term is handed on, to be refused there."""
    options = dict(said) if isinstance(said, Mapping) else {"weight": said}
    kind = options.get("provider", label)
    if not isinstance(kind, str):
        return said
    given = {key: value for key, value in options.items() if key not in ("weight", "provider")}
    return {**options, **_arguments(kind, hardware, {**own, **given})}
