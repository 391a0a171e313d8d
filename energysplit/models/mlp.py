"""A multilayer perceptron on flattened images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import prod
from typing import Annotated

from pydantic import Field
from torch import nn

from energysplit.models.activations import activation as make_activation
from energysplit.models.layers import initialise
from energysplit.models.registry import Count, register


class MLP(nn.Sequential):
    """Flatten, hidden layers and a classifier. Module names: "blocks.0.linear", ..., "classifier"."""

    def __init__(
        self,
        inputs: int,
        widths: Sequence[int],
        *,
        classes: int,
        act: str,
        batch_norm: bool,
        bias: bool,
        dropout: float,
    ) -> None:
        blocks = []
        for before, width in zip([inputs, *widths], widths, strict=False):
            parts: OrderedDict[str, nn.Module] = OrderedDict(linear=nn.Linear(before, width, bias=bias))
            if batch_norm:
                parts["norm"] = nn.BatchNorm1d(width)
            parts["act"] = make_activation(act)
            if dropout > 0:
                parts["dropout"] = nn.Dropout(dropout)
            blocks.append(nn.Sequential(parts))
        classifier = nn.Linear([inputs, *widths][-1], classes)
        super().__init__(OrderedDict(flatten=nn.Flatten(), blocks=nn.Sequential(*blocks), classifier=classifier))
        initialise(self)


@register("mlp", image=(1, 8, 8))
def mlp(
    *,
    image: Annotated[Sequence[Count], Field(min_length=3, max_length=3)] = (1, 8, 8),
    widths: Annotated[Sequence[Count], Field(min_length=1)] = (32, 32),
    classes: Count = 10,
    activation: str = "relu",
    batch_norm: bool = False,
    bias: bool = True,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> MLP:
    """A multilayer perceptron.

    Args:
        image: channels, height and width of the images.
        widths: neurons of each hidden layer.
        classes: outputs.
        activation: "relu", "relu6", "silu" or "gelu".
        batch_norm: after each hidden layer.
        bias: of the hidden layers.
        dropout: probability after each hidden layer.
    """
    return MLP(prod(image), widths, classes=classes, act=activation, batch_norm=batch_norm, bias=bias, dropout=dropout)
