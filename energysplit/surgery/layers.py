"""Sizes a layer keeps besides its tensors; after surgery they are read off the tensors again."""

from __future__ import annotations

from torch import nn


def set_sizes(layer: nn.Module) -> None:
    """Set the layer's size attributes from the shapes of its tensors.

    Raises:
        TypeError: the layer is of a kind that surgery does not edit (our mistake: the graph offered its slots).
    """
    match layer:
        case nn.Conv1d() | nn.Conv2d():
            if layer.groups > 1:  # depthwise: one filter a channel
                layer.groups = layer.weight.shape[0]
            layer.out_channels = layer.weight.shape[0]
            layer.in_channels = layer.weight.shape[1] * layer.groups
        case nn.Linear():
            layer.out_features, layer.in_features = layer.weight.shape
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            assert layer.running_mean is not None
            layer.num_features = layer.running_mean.shape[0]
        case _:
            raise TypeError(f"surgery has no sizes for {type(layer).__name__}")
