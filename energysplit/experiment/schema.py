"""What an experiment's file may say: a question, the methods that answer it, their seeds and sizes, what is claimed.

Frozen, unknown keys refused and types not converted, as in recipes. The descriptions here are the reference: error
messages quote them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from energysplit.errors import nearest

Size = Literal["small", "full"]
SIZES: tuple[Size, ...] = ("small", "full")
Where = Literal["every stage", "lowest", "last", "last networks"]

PLACEHOLDER = re.compile(r"\{run:([^{}]*)\}")
"""Becomes the run folder of a method's run with the same seed."""
OWN_KEYS = ("name", "seed")
"""Keys of a recipe that the experiment itself sets."""

_NAME = r"^[^/\\{}]*[A-Za-z0-9][^/\\{}]*$"
_LIST = Field(strict=False, min_length=1)
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], _LIST]
MethodName = Annotated[
    str,
    # It is a part of the names of files, which most file systems limit to 255 bytes.
    Field(
        pattern=_NAME,
        max_length=100,
        json_schema_extra={"expected": "a name of 100 characters or fewer, a letter or digit among them, no / \\ { }"},
    ),
]


class _Table(BaseModel):
    """A table of the file: frozen, unknown keys refused, types not converted, no NaN and no infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)


def _settings(value: dict[str, Any]) -> dict[str, Any]:
    for key in value:
        if not all(part.strip() for part in key.split(".")):
            raise ValueError(f"expected dotted keys such as 'train.epochs', given {key!r}")
        if key in OWN_KEYS:
            raise ValueError(f"{key!r} is set by the experiment itself: names are the methods', seeds those of `seeds`")
    return value


class _Set(_Table):
    """What is set over a recipe."""

    set: dict[str, Any] = Field(
        default_factory=dict,
        description="keys of the recipe and their values; a quoted dotted key sets one key, a table merges",
    )

    _dotted = field_validator("set")(_settings)


class SizeTable(_Set):
    """How large a set of runs is: on what it is based, and what is set in all methods."""

    recipe: str | None = Field(
        default=None, description="base recipe of this size, in place of the file's", min_length=1
    )
    seeds: Seeds | None = Field(default=None, description="seeds of this size, in place of the file's")
    expect: str = Field(description="what it costs and how long it takes, in words", min_length=1)


class MethodSize(_Set):
    """What is different in a method at one size."""

    recipe: str | None = Field(default=None, description="base recipe of this method at this size", min_length=1)


class MethodSizes(_Table):
    """The sizes a method differs at."""

    small: MethodSize | None = Field(default=None, description="at size small")
    full: MethodSize | None = Field(default=None, description="at size full")


class MethodTable(_Set):
    """One of the methods that are compared."""

    name: MethodName = Field(description="name of the method, its label in figures")
    recipe: str | None = Field(default=None, description="base recipe of this method, at all sizes", min_length=1)
    sizes: Annotated[tuple[Size, ...], _LIST] = Field(default=SIZES, description="sizes it takes part in")
    size: MethodSizes = Field(default_factory=MethodSizes, description="what is different at one size")

    @property
    def slug(self) -> str:
        """The name as a part of a folder's name."""
        return slug(self.name)


class Sizes(_Table):
    """The sizes an experiment can be run in."""

    small: SizeTable | None = Field(default=None, description="two cores, hours at most")
    full: SizeTable | None = Field(default=None, description="as published, or as large as it is meant")


class ReferenceTable(_Table):
    """Published points: drawn and listed as such, never compared with."""

    name: str = Field(description="what it is called in figures", min_length=1)
    source: str = Field(description="where the numbers were read", min_length=1)
    points: Annotated[tuple[dict[str, float], ...], _LIST] = Field(
        description="tables of provider = value in its unit, and accuracy from 0 to 1",
        json_schema_extra={"expected": "a list of tables, { macs = 285e6, accuracy = 0.705 }"},
    )
    sizes: Annotated[tuple[Size, ...], _LIST] = Field(
        default=("full",), description="sizes whose page shows it: those on the same data"
    )

    @field_validator("points", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        """Whole numbers are numbers too, though types are not converted elsewhere."""
        if not isinstance(value, list | tuple):
            return value
        return [
            {
                key: float(number) if isinstance(number, int) and not isinstance(number, bool) else number
                for key, number in point.items()
            }
            if isinstance(point, Mapping)
            else point
            for point in value
        ]

    @field_validator("points")
    @classmethod
    def _accuracies(cls, value: tuple[dict[str, float], ...]) -> tuple[dict[str, float], ...]:
        for point in value:
            if not 0 <= point.get("accuracy", -1) <= 1:
                raise ValueError(f"expected an accuracy from 0 to 1 in each point, given {point}")
            if len(point) < 2 or any(number <= 0 for key, number in point.items() if key != "accuracy"):
                raise ValueError(f"expected a cost > 0 beside the accuracy of each point, given {point}")
        return value


class ClaimTable(_Table):
    """What is claimed of two methods at equal cost; the page says whether it held."""

    better: MethodName = Field(description="the method that is said to be better")
    than: MethodName = Field(description="the method that it is compared with")
    provider: str = Field(default="macs", description="the cost that is equal", min_length=1)
    by: float = Field(
        default=0.0, description="points of test accuracy; below zero, how much worse still counts as not worse"
    )
    at: Where = Field(
        default="every stage",
        description="at which of the compared costs above the seed's, or by the last networks",
    )


class Experiment(_Table):
    """A whole experiment."""

    title: str = Field(description="title of the page", min_length=1)
    question: str = Field(description="what is asked, in one sentence", min_length=1)
    recipe: str = Field(description="base recipe of all methods, relative to the file", min_length=1)
    seeds: Seeds = Field(default=(0, 1, 2), description="a run of each method for each of these seeds")
    providers: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(), description="costs of the comparison; all that every run reports if empty"
    )
    size: Sizes = Field(description="the sizes it can be run in: [size.small] and [size.full]")
    method: Annotated[tuple[MethodTable, ...], _LIST] = Field(
        description="the methods that are compared, one [[method]] table each"
    )
    reference: Annotated[tuple[ReferenceTable, ...], Field(strict=False)] = Field(
        default=(), description="published points, one [[reference]] table each"
    )
    claim: Annotated[tuple[ClaimTable, ...], Field(strict=False)] = Field(
        default=(), description="what is claimed, one [[claim]] table each"
    )

    @field_validator("seeds")
    @classmethod
    def _seeds_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return _once(value, "seeds")

    @field_validator("size")
    @classmethod
    def _some_size(cls, value: Sizes) -> Sizes:
        if value.small is None and value.full is None:
            raise ValueError("expected [size.small] or [size.full] or both")
        for size in (value.small, value.full):
            if size is not None and size.seeds is not None:
                _once(size.seeds, "seeds")
        return value

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        names = [method.name for method in self.method]
        _once([method.slug for method in self.method], "names of methods (letters and digits of them)")
        for method in self.method:
            for name in placeholders([method.set, *(each.set for each in _sizes(method))]):
                _known(f"method {method.name!r}: {{run:{name}}}", name, names)
        for number, claim in enumerate(self.claim):
            for key in ("better", "than"):
                _known(f"claim.{number}.{key}", getattr(claim, key), names)
            if self.providers and claim.provider not in self.providers:
                raise ValueError(
                    f"claim.{number}.provider: {claim.provider!r} is no cost of the comparison; add it to providers, "
                    f"or give one of them: {nearest(claim.provider, self.providers)}"
                )
            if claim.better == claim.than:
                raise ValueError(f"claim.{number}: expected two methods, given {claim.better!r} twice")
        return self

    def table(self, size: Size) -> SizeTable | None:
        """The table of a size, if there is one."""
        return self.size.small if size == "small" else self.size.full

    def methods(self, size: Size) -> tuple[MethodTable, ...]:
        """The methods that take part in a size."""
        return tuple(method for method in self.method if size in method.sizes)


def slug(name: str) -> str:
    """A name as a part of a folder's name.

    Example:
        >>> slug("Energy-aware (k = 3)")
        'energy-aware-k-3'
    """
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")


def placeholders(value: Any) -> list[str]:
    """Names in all "{run:NAME}" of a tree, in order, each once."""
    return list(dict.fromkeys(_placeholders(value)))


def _placeholders(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield from PLACEHOLDER.findall(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _placeholders(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _placeholders(item)


def _sizes(method: MethodTable) -> list[MethodSize]:
    return [size for size in (method.size.small, method.size.full) if size is not None]


def _known(place: str, name: str, names: list[str]) -> None:
    if name not in names:
        raise ValueError(f"{place}: no method {name!r}; {nearest(name, names)}")


def _once(values: Any, what: str) -> Any:
    if twice := [value for value in dict.fromkeys(values) if list(values).count(value) > 1]:
        raise ValueError(f"expected {what} that differ, given {twice[0]!r} twice")
    return values
