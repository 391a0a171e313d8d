"""Whether a model takes an image: one dry run that names the layer, and the size expected.

A padded convolution runs on any image, even where nothing is left to reduce: a 1x1 input at stride 2 reads padding
only. That is refused here, because it trains badly without a word.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from energysplit.errors import DataError

_REDUCING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def check_image(module: nn.Module, image: tuple[int, int, int], classes: int | None = None) -> None:
    """Refuse images the model can't take; silent if it can.

    Args:
        module: any module that takes images (batch, channels, height, width).
        image: (channels, height, width).
        classes: labels of the data; when given, the model must have that many outputs.

    Raises:
        DataError: other channels or size than the first layers take, an image used up before the last stride, or
            other outputs than classes. The message names the layer and what is expected.
    """
    label = getattr(module, "energysplit_builder", {}).get("name", type(module).__name__)
    shape = "x".join(map(str, image))
    entered: list[str] = []
    reduction = [1, 1]

    def enter(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        entered.append(name)
        size = inputs[0].shape
        if isinstance(layer, nn.Conv2d) and size[1] != layer.in_channels:
            raise DataError(
                f"model {label!r}: {name} takes {layer.in_channels} channels, images of {shape} (channels x height x "
                f"width) bring {size[1]}; set model.args.in_channels = {image[0]} or use other data"
            )
        if isinstance(layer, nn.Linear) and size[-1] != layer.in_features:
            raise DataError(
                f"model {label!r}: {name} takes {layer.in_features} numbers, images of {shape} bring {size[-1]}; "
                "set the model's image size (model.args.image for 'mlp') or data.image_size"
            )
        if isinstance(layer, _REDUCING):
            for axis, stride in enumerate(_pair(layer.stride)):
                reduction[axis] *= stride
                if stride > 1 and size[2 + axis] < stride:
                    least = "x".join(str(least) for least in _smallest(module))
                    raise DataError(
                        f"model {label!r} can't take images of {shape} (channels x height x width): at {name}, of "
                        f"stride {stride}, only {size[2]}x{size[3]} is left. At least {least} expected: "
                        "use larger images (data.image_size) or a model with fewer strides"
                    )

    layers = [(name, layer) for name, layer in module.named_modules() if not list(layer.children())]
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs, name=name: enter(name, layer, inputs))
        for name, layer in layers
    ]
    modes = {sub: sub.training for sub in module.modules()}
    like = next((p for p in module.parameters()), torch.empty(0))
    try:
        module.eval()
        with torch.no_grad():
            output = module(torch.zeros(1, *image, dtype=like.dtype, device=like.device))
    except RuntimeError as error:
        where = f" at {entered[-1]}" if entered else ""
        raise DataError(
            f"model {label!r} can't take images of {shape} (channels x height x width){where}: {error}"
        ) from error
    finally:
        for sub, mode in modes.items():
            sub.training = mode
        for hook in hooks:
            hook.remove()
    if classes is not None and tuple(output.shape) != (1, classes):
        raise DataError(
            f"model {label!r} gives outputs of shape {tuple(output.shape[1:])}, the data has {classes} classes; "
            f"set model.args.classes = {classes}"
        )


def _smallest(module: nn.Module) -> tuple[int, int]:
    """Height and width that leave one pixel after all strides: their product, as the layers form one chain."""
    height = width = 1
    for layer in module.modules():
        if isinstance(layer, _REDUCING):
            stride = _pair(layer.stride)
            height, width = height * stride[0], width * stride[1]
    return height, width


def _pair(value: int | tuple[int, ...] | None) -> tuple[int, int]:
    if value is None:
        return 1, 1
    return (value, value) if isinstance(value, int) else (value[0], value[1])
