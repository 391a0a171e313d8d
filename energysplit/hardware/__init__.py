"""Devices: the profile of one (schema, built-in profiles, loader), and a draft for the machine this runs on."""

from __future__ import annotations

from energysplit.hardware.detect import check_execution_provider, draft, execution_providers
from energysplit.hardware.load import built_in, from_dict, load, this_machine
from energysplit.hardware.schema import (
    Arithmetic,
    Compute,
    HardwareProfile,
    Measurement,
    MemoryLevel,
    Number,
)

__all__ = [
    "Arithmetic",
    "Compute",
    "HardwareProfile",
    "Measurement",
    "MemoryLevel",
    "Number",
    "built_in",
    "check_execution_provider",
    "draft",
    "execution_providers",
    "from_dict",
    "load",
    "this_machine",
]
