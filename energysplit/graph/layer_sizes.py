"""Sizes a layer keeps besides its tensors; after surgery they are read off the tensors again."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def set_sizes(layer: nn.Module, depthwise: bool | None = None) -> None:
    """Set the layer's size attributes from the shapes of its tensors; may be done twice.

    The groups of a depthwise convolution follow its channels, and each keeps its number of filters. Other grouped
    convolutions keep their groups. Modules not listed keep no sizes that we know of.

    Args:
        layer: a module, of which some tensors were replaced.
        depthwise: whether it was a depthwise convolution before. A narrowed grouped one may look like one, and a
            depthwise one of a single channel looks like a plain one. None: as it looks.
    """
    match layer:
        case nn.Conv1d() | nn.Conv2d():
            rows, columns = layer.weight.shape[:2]
            if depthwise is None:
                depthwise = layer.groups > 1 and columns == 1
            if depthwise:
                filters = layer.out_channels // layer.in_channels
                layer.groups = rows // filters
            layer.out_channels = rows
            layer.in_channels = columns * layer.groups
        case nn.Linear():
            layer.out_features, layer.in_features = layer.weight.shape
        case _BatchNorm():
            held = layer.running_mean if layer.running_mean is not None else layer.weight
            if held is not None:
                layer.num_features = held.shape[0]
        case nn.PReLU():
            layer.num_parameters = layer.weight.shape[0]
