"""The networks of a measurement as they travel with it: of which family each is, and its layer cases.

Results hold node names and times; with these notes they are enough to make a table, on whatever machine and whenever.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from energysplit.errors import InputError
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
        found = json.loads(text)
        if found.pop("version") != 1:
            raise ValueError("made by a newer version of energysplit")
        networks = {entry["name"]: _network(entry) for entry in found.pop("networks")}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{where}: what was measured can't be read from it ({error}); expected the results of a kit or of "
            "'energysplit profile', unchanged"
        ) from error
    return networks, found


def _network(entry: Mapping[str, Any]) -> MeasuredNetwork:
    channels, height, width = entry["image"]
    return MeasuredNetwork(
        str(entry["name"]),
        str(entry["family"]),
        (int(channels), int(height), int(width)),
        tuple(_case(case) for case in entry["cases"]),
    )


def _case(fields: Mapping[str, Any]) -> LayerCase:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return LayerCase(**values)
