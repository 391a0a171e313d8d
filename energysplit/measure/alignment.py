"""Which multiples of channels a device likes, from measured networks of one width each.

A small network of the usual layers (a 3x3, a depthwise and a pointwise convolution, twice) is measured at every width
of a range. A width c pays for its next multiple of m if the network of that multiple takes no longer: then the channels
between are free, and a network should have them. The answer is the largest m for which that is so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from energysplit.errors import InputError
from energysplit.graph import trace
from energysplit.measure.plan import PlanOptions, remove_models, write_plan
from energysplit.measure.precision import Precision, converted
from energysplit.measure.reference import reference_model
from energysplit.measure.runner import measure
from energysplit.measure.samples import read_results
from energysplit.measure.summary import Summary
from energysplit.measure.template import Template
from energysplit.progress import Progress

FOLDER = "alignment"
MULTIPLES = (2, 4, 8, 16, 32)
WIDTHS = tuple(range(33, 65))
_SIZE = 14
_SLACK = 1.03
"""A next multiple may take this much longer and still count as free: twice the standard error of a median here."""
_SHARE = 0.9
"""Of the widths between multiples that must be free."""


def multiple_of(times: Mapping[int, float]) -> int:
    """The largest m of `MULTIPLES` whose next multiple is free for 90 % of the widths between; 1 if there is none.

    Args:
        times: width -> time, in any unit.

    Raises:
        InputError: no widths.

    Example:
        >>> multiple_of({width: -(-width // 8) for width in range(1, 65)})
        8
        >>> multiple_of({width: width for width in range(1, 65)})
        1
    """
    if not times:
        raise InputError("no widths were measured, so no multiple can be found")
    found = 1
    for multiple in MULTIPLES:
        pairs = [
            (time, times[above])
            for width, time in times.items()
            if width % multiple and (above := -(-width // multiple) * multiple) in times
        ]
        free = sum(above <= _SLACK * time for time, above in pairs)
        if pairs and free >= _SHARE * len(pairs):
            found = multiple
    return found


def measure_widths(
    out: Path, options: PlanOptions, precision: Precision = "fp32", progress: Progress | None = None
) -> dict[int, Summary]:
    """Width -> time of the network of that width, in times of the reference; what is measured already stays."""
    models = ((f"w{width}", data) for width, data in models_of_widths(precision).items())
    folder = write_plan(out / f"{FOLDER}-{precision}", models, reference_model(), options)
    try:
        results = read_results(measure(folder, progress).results)
    finally:
        remove_models(folder)
    return {int(name[1:]): model.network.ratio for name, model in results.models.items()}


def models_of_widths(precision: Precision = "fp32") -> dict[int, bytes]:
    """Width -> ONNX model of the small network at that width."""
    template = Template.of(trace(_network(WIDTHS[0]), torch.zeros(1, 3, 2 * _SIZE, 2 * _SIZE)))
    groups = [name for name, group in template.net.groups.items() if group.splittable]
    models = {}
    for width in WIDTHS:
        data = template.at(dict.fromkeys(groups, width), filled=precision == "fp32")
        models[width] = data if precision == "fp32" else converted(data, precision)
    return models


def _network(width: int) -> nn.Module:
    """The usual layers at one width, two times."""

    def block(before: int, kernel: int, groups: int = 1) -> list[nn.Module]:
        conv = nn.Conv2d(before, width, kernel, padding=kernel // 2, groups=groups, bias=False)
        return [conv, nn.BatchNorm2d(width), nn.ReLU()]

    layers = [nn.MaxPool2d(2), *block(3, 3)]
    for _ in range(2):
        layers += [*block(width, 3, width), *block(width, 1), *block(width, 3)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)).eval()
