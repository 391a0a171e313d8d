"""Splits neurons in a live module: new parameters, the same function at step 0. Removes them as well."""

from energysplit.surgery.apply import split
from energysplit.surgery.check import function_error
from energysplit.surgery.narrow import narrow, narrow_state
from energysplit.surgery.optimiser import split_state
from energysplit.surgery.step import StepChoice, choose_step, group_norms

__all__ = [
    "StepChoice",
    "choose_step",
    "function_error",
    "group_norms",
    "narrow",
    "narrow_state",
    "split",
    "split_state",
]
