"""Energy of one MAC of a device, fitted to published energies of whole networks that ran on it.

What the boards' profiles state. It is the crudest model there is, and `energy_prediction.py` found none that predicts a
network left out better with so few networks a device: see `results/energy_prediction.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from energysplit.errors import InputError
from energysplit.hardware.schema import Measurement


class Fitted(NamedTuple):
    """Joules of one MAC: the fit, and the least and the most of any network, memory and overheads included."""

    value: float
    low: float
    high: float


def same_setup(measured: Sequence[Measurement]) -> list[Measurement]:
    """The measurements taken in the way of the first one: the same software and the same voltage and clock."""
    return [one for one in measured if (one.runtime, one.setup) == (measured[0].runtime, measured[0].setup)]


def energy_per_mac(measured: Sequence[Measurement]) -> Fitted:
    """The energy of one MAC that errs least over networks, each error squared and relative to its network.

    Error: the interval holds every network's own energy per MAC.

    Raises:
        InputError: there is no measurement.
    """
    if not measured:
        raise InputError("no measured networks to fit an energy per MAC to; give at least one")
    each = [one.energy.value / one.macs for one in measured]
    value = sum(1 / joules for joules in each) / sum(1 / joules**2 for joules in each)
    return Fitted(value, min(each), max(each))
