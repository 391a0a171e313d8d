"""The networks of a measurement as they travel with it: of which family each is, and its layer cases.

Results hold node names and times; with these notes they are enough to make a table, on whatever machine and whenever.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from energysplit.amounts import LARGEST
from energysplit.errors import InputError, first_complaint
from energysplit.plain_data import parse_json
from energysplit.types import LayerCase


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network that is measured: its family, image and layer cases in the order they run."""

    name: str
    family: str
    image: tuple[int, int, int]
    cases: tuple[LayerCase, ...]

    @classmethod
    def of(cls, name: str, family: str, image: tuple[int, int, int], cases: Iterable[LayerCase]) -> MeasuredNetwork:
        """The network, without what depends on more than a layer itself."""
        return cls(name, family, image, tuple(replace(case, live=0) for case in cases))


def written(networks: Iterable[MeasuredNetwork], **more: Any) -> str:
    """The networks as text (JSON) that travels with a measurement; `more` beside them."""
    return json.dumps({"version": 1, **more, "networks": [asdict(network) for network in networks]})


def read(text: str, where: str) -> tuple[dict[str, MeasuredNetwork], Mapping[str, Any]]:
    """The networks by name, and what else was written beside them.

    Raises:
        InputError: the text is no such note.
    """
    try:
        note = _Note.model_validate(parse_json(text))
    except ValueError as error:  # ValidationError is one
        raise InputError(
            f"{where}: what was measured can't be read from it ({first_complaint(error)}); expected the results of a "
            "kit or of 'energysplit profile', unchanged"
        ) from None
    return {network.name: network for network in note.networks}, note.model_extra or {}


class _Note(BaseModel):
    """What travels with a measurement; `more` of `written` is kept as it is."""

    model_config = ConfigDict(extra="allow")

    version: Literal[1]
    networks: tuple[MeasuredNetwork, ...]

    @field_validator("networks")
    @classmethod
    def _sizes(cls, value: tuple[MeasuredNetwork, ...]) -> tuple[MeasuredNetwork, ...]:
        for network in value:
            numbers = [number for case in network.cases for number in _numbers(case)]
            if min((*network.image, *numbers)) < 0 or max((*network.image, *numbers)) > LARGEST:
                raise ValueError(f"network {network.name!r} has sizes that no layer has")
        return value


def _numbers(case: LayerCase) -> Iterator[int]:
    for value in vars(case).values():
        yield from value if isinstance(value, tuple) else [value] if isinstance(value, int) else []
