"""Multiply-accumulate operations of a layer: the cost every paper reports and no device charges."""

from __future__ import annotations

from energysplit.costs.registry import register_cost
from energysplit.types import Cost, LayerCase


@register_cost("macs")
class Macs:
    """Multiply-accumulates of one image through a layer.

    As `torch.utils.flop_counter` counts them (its figure is twice this one): convolutions, linear layers, and the
    matrix products of layers that are priced as a whole, such as attention. Biases and activations are left out, and
    so is batch norm, which inference folds into the convolution.
    """

    unit = "MAC"

    def price(self, case: LayerCase) -> Cost:
        """Multiply-accumulates of `case`, counted."""
        if case.op == "batch_norm":
            return Cost.exact(0, self.unit)
        if case.op == "other":
            return Cost.exact(case.macs, self.unit)
        kernel_height, kernel_width = case.kernel
        out_height, out_width = case.out_size
        fan_in = case.in_channels // case.groups * kernel_height * kernel_width
        return Cost.exact(case.out_channels * fan_in * out_height * out_width, self.unit)
