"""What a layer case moves and computes: MACs, weights, and the elements of its input and output maps.

Energy and roofline price all operations, also those without weights, from these four numbers. Counted, not measured:
a runtime that copies, pads or reorders moves more.
"""

from __future__ import annotations

from typing import NamedTuple

from energysplit.costs.macs import Macs
from energysplit.types import WEIGHTED, WEIGHTLESS, LayerCase

BYTES = {"fp32": 4, "fp16": 2, "int16": 2, "int8": 1}
"""Bytes of one element, by precision."""

_MACS = Macs()


class Traffic(NamedTuple):
    """What one image costs in a layer: MACs, and the distinct elements of weights, inputs and outputs."""

    macs: int
    weights: int
    inputs: int
    outputs: int

    @property
    def elements(self) -> int:
        """Elements of all operands together."""
        return self.weights + self.inputs + self.outputs


def traffic(case: LayerCase) -> Traffic:
    """MACs and operand sizes of `case`, counted.

    - Convolution, linear: MACs as the provider "macs" counts them. Weights with bias; a batch norm is folded into
      them. Shared weights are read again at each use. Of a map that is larger than all its windows together (a 1x1
      kernel with stride 2), only what the windows touch is read.
    - Batch norm on its own: one MAC an element, scale and shift.
    - Other: its own MACs and parameters. Where its channels aren't told, its maps are taken as what is alive while it
      runs, an upper bound.
    - Without weights: one operation for each value that goes into an output (pooling: the window; add, multiply: two;
      activation: one; move: none), counted as a MAC though it is cheaper. Add and multiply read two maps of the
      output's size, an upper bound for a gate of one value a channel.

    Example:
        >>> traffic(LayerCase("conv2d", 3, 8, (3, 3), (2, 2), (1, 1), in_size=(32, 32), out_size=(16, 16), bias=True))
        Traffic(macs=55296, weights=224, inputs=3072, outputs=2048)
    """
    outputs = case.out_channels * case.out_size[0] * case.out_size[1]
    whole = case.in_channels * case.in_size[0] * case.in_size[1]
    window = case.kernel[0] * case.kernel[1]
    if case.op in WEIGHTED:
        macs = int(_MACS.price(case).value)
        weights = case.out_channels * (case.in_channels // case.groups) * window
        shift = case.out_channels if case.bias or case.batch_norm else 0
        touched = case.in_channels * window * case.out_size[0] * case.out_size[1]
        return Traffic(macs, weights + shift, min(whole, touched), outputs)
    if case.op == "batch_norm":
        return Traffic(outputs, 2 * case.out_channels, whole, outputs)
    if case.op == "other":
        return Traffic(case.macs, case.params, *((whole, outputs) if case.out_channels else (case.live, 0)))
    if case.op in ("max_pool", "average_pool"):
        return Traffic(outputs * window, 0, min(whole, outputs * window), outputs)
    if case.op in ("add", "multiply"):
        return Traffic(2 * outputs, 0, 2 * outputs, outputs)
    if case.op == "activation":
        return Traffic(outputs, 0, whole, outputs)
    if case.op == "move":
        return Traffic(0, 0, whole, outputs)
    raise AssertionError(f"{case.op} is neither a layer nor one of {WEIGHTLESS}")
