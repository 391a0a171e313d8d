"""Devices: the profile of one (schema, built-in profiles, loader), and a draft for the machine this runs on."""

from __future__ import annotations

from energysplit.hardware.detect import available_providers, check_provider, draft
from energysplit.hardware.load import built_in, from_dict, load, this_machine
from energysplit.hardware.schema import (
    Alignment,
    Arithmetic,
    Compute,
    HardwareProfile,
    Measurement,
    MemoryLevel,
    Number,
)

__all__ = [
    "Alignment",
    "Arithmetic",
    "Compute",
    "HardwareProfile",
    "Measurement",
    "MemoryLevel",
    "Number",
    "available_providers",
    "built_in",
    "check_provider",
    "draft",
    "from_dict",
    "load",
    "this_machine",
]
