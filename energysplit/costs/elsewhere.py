"""Whether a cost table was measured on the device it is used for; if not, a warning or an error with both names."""

from __future__ import annotations

import warnings
from pathlib import Path

from energysplit.costs.table import Provenance
from energysplit.errors import InputError, MeasuredElsewhere
from energysplit.hardware import HardwareProfile
from energysplit.hardware.detect import machine, package_version


def check_device(folder: Path | str, table: Provenance, device: HardwareProfile | None, strict: bool) -> None:
    """Warns of each difference.

    Args:
        folder: of the table, for messages.
        table: where it comes from.
        device: what it is wanted for; this machine if not given.
        strict: whether a difference is an error.

    Raises:
        InputError: strict, and the table was measured on another machine, runtime or setting.
    """
    for said in differences(table, device):
        text = f"{folder}: {said}"
        if strict:
            raise InputError(f"{text}; measure here with 'energysplit profile', or leave out strict")
        warnings.warn(text, MeasuredElsewhere, stacklevel=3)


def differences(table: Provenance, device: HardwareProfile | None) -> list[str]:
    """What a table was measured on, where that is not the device it is wanted for, with both names.

    The device is the profile's, or this machine if there is none; this machine's runtime is compared where the device
    is this machine.
    """
    found = []
    here = machine().processor or ""
    wanted = device.processor if device is not None and device.processor else here
    if " ".join(table.machine.split()) != " ".join(wanted.split()):
        found.append(f"measured on {table.machine!r}, used for {wanted!r}")
    settings: list[tuple[str, object]] = (
        [] if device is None else [("threads", device.threads), ("precision", device.precision)]
    )
    if device is not None and device.execution_provider is not None:
        settings.append(("execution_provider", device.execution_provider))
    for key, value in settings:
        if getattr(table, key) != value:
            found.append(f"measured with {key} = {getattr(table, key)!r}, the profile says {value!r}")
    if wanted == here and table.runtime == "onnxruntime":
        version = package_version("onnxruntime")
        if version is not None and version != table.runtime_version:
            found.append(f"measured with onnxruntime {table.runtime_version}, onnxruntime {version} is installed here")
    return found
