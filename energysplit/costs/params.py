"""Parameters of a layer: what a checkpoint stores and an optimiser updates."""

from __future__ import annotations

from energysplit.costs.registry import register_cost
from energysplit.types import Cost, LayerCase


@register_cost("params")
class Params:
    """Parameters of a layer with its batch norm: of a network the sum of `numel()` over `module.parameters()`.

    Weights, bias, and scale and shift of a batch norm; running statistics are not parameters. Weights that several
    layers share are counted at the first. What only runs in training, such as auxiliary heads, is not counted; a
    layer's weight counts even if it is a buffer.
    """

    unit = "param"

    def price(self, case: LayerCase) -> Cost:
        """Parameters of `case`, counted."""
        if case.op == "other" or case.shared:
            return Cost.exact(case.params, self.unit)
        affine = 2 * case.out_channels if case.batch_norm else 0
        if case.op == "batch_norm":
            return Cost.exact(affine, self.unit)
        kernel_height, kernel_width = case.kernel
        weights = case.out_channels * (case.in_channels // case.groups) * kernel_height * kernel_width
        bias = case.out_channels if case.bias else 0
        return Cost.exact(weights + bias + affine, self.unit)
