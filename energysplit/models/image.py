"""Whether a model takes an image: one dry run that names the layer, and the size expected.

A padded convolution runs on any image, even where nothing is left to reduce: a 1x1 input at stride 2 reads padding
only. That is refused here, because it trains badly without a word. So is a model that gives more than class scores,
in eval mode or, as networks with auxiliary heads do, in training only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from energysplit.errors import DataError

Image = tuple[int, int, int]

_REDUCING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
# Images up to this many times as high and wide are tried, to say which would do.
_LARGEST_FACTOR = 64


def check_image(module: nn.Module, image: Image, classes: int | None = None) -> None:
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
    like = next((p for p in module.parameters()), torch.empty(0))
    entered: list[str] = []
    try:
        with _mode(module, training=False), _watched(module, image, entered), torch.no_grad():
            output = module(torch.zeros(1, *image, dtype=like.dtype, device=like.device))
    except _UsedUp as used_up:
        raise DataError(
            f"model {label!r} can't take images of {shape} (channels x height x width): at {used_up}."
            f"{_enough(module, image)} Use larger images (data.image_size) or a model with fewer strides"
        ) from None
    except DataError:
        raise
    except (RuntimeError, AssertionError, ValueError) as error:
        where = f" at {entered[-1]}" if entered else ""
        raise DataError(
            f"model {label!r} can't take images of {shape} (channels x height x width){where}: {error}"
        ) from error
    if classes is None:
        return
    key = "num_classes" if label.startswith(("torchvision:", "timm:")) else "classes"
    for mode, found in (("eval", output), ("training", _trained_output(module, image))):
        if found is not None and not isinstance(found, Tensor):
            raise DataError(
                f"model {label!r} gives a {type(found).__name__} in {mode} mode; one tensor of class scores expected: "
                "leave out auxiliary heads (model.args.aux_logits = false) and feature outputs"
            )
    if tuple(output.shape) != (1, classes):
        raise DataError(
            f"model {label!r} gives outputs of shape {tuple(output.shape[1:])}, the data has {classes} classes; "
            f"set model.args.{key} = {classes}"
        )


class _UsedUp(Exception):
    """A layer's stride is larger than what is left of the image; the message says which."""


@contextmanager
def _watched(module: nn.Module, image: Image, entered: list[str]) -> Iterator[None]:
    """Looks at what each layer is given before it runs; the layers' names go to `entered`."""
    label = getattr(module, "energysplit_builder", {}).get("name", type(module).__name__)
    shape = "x".join(map(str, image))

    def enter(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        entered.append(name)
        if not inputs or not isinstance(inputs[0], Tensor):
            return
        size = inputs[0].shape
        if isinstance(layer, nn.Conv2d) and len(size) == 4 and size[1] != layer.in_channels:
            raise DataError(
                f"model {label!r}: {name} takes {layer.in_channels} channels, images of {shape} (channels x height x "
                f"width) bring {size[1]}; {_channels_advice(label, image[0])}"
            )
        if isinstance(layer, nn.Linear) and size[-1] != layer.in_features:
            raise DataError(
                f"model {label!r}: {name} takes {layer.in_features} numbers, images of {shape} bring {size[-1]}; "
                "set the model's image size (model.args.image for 'mlp') or data.image_size"
            )
        if isinstance(layer, _REDUCING) and len(size) == 4:
            for axis, stride in enumerate(_pair(layer.stride)):
                if stride > 1 and size[2 + axis] < stride:
                    raise _UsedUp(f"{name}, of stride {stride}, only {size[2]}x{size[3]} is left")

    with ExitStack() as stack:
        for name, layer in module.named_modules():
            if not list(layer.children()):
                hook = layer.register_forward_pre_hook(lambda layer, inputs, name=name: enter(name, layer, inputs))
                stack.callback(hook.remove)
        yield


@contextmanager
def _mode(module: nn.Module, training: bool) -> Iterator[None]:
    """The module in one mode; every submodule's own is put back."""
    modes = {sub: sub.training for sub in module.modules()}
    try:
        module.train(training)
        yield
    finally:
        for sub, mode in modes.items():
            sub.training = mode


def _channels_advice(label: str, channels: int) -> str:
    if label.startswith("torchvision:"):
        return "torchvision's models take colour images only: use other data"
    key = "in_chans" if label.startswith("timm:") else "in_channels"
    return f"set model.args.{key} = {channels} or use other data"


def _enough(module: nn.Module, image: Image) -> str:
    """The sentence that names a size the model takes: the image's, doubled until nothing is used up."""
    channels, height, width = image
    factor = 2
    while factor <= _LARGEST_FACTOR:
        larger = (channels, height * factor, width * factor)
        try:
            with _watched(module, larger, []):
                _pretend(module, larger)
            return f" Images of {larger[1]}x{larger[2]} would do."
        except _UsedUp:
            factor *= 2
        except Exception:  # some models take one size only
            return ""
    return ""


def _trained_output(module: nn.Module, image: Image) -> object:
    """What the module gives in training mode; None where it fails there, which training will say better."""
    like = next((p for p in module.parameters()), torch.empty(0))
    # Training mode writes to the statistics of batch norms, and drops at random. Two images, as batch norm wants them.
    # Fake tensors would save the computing, but import torch's whole compiler, which takes longer.
    kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        with _mode(module, training=True), torch.random.fork_rng(devices=[]), torch.no_grad():
            return torch.func.functional_call(
                module, kept, (torch.zeros(2, *image, dtype=like.dtype, device=like.device),)
            )
    except Exception:
        return None


def _pretend(module: nn.Module, image: Image) -> object:
    """The module's output in eval mode with shapes but without numbers."""
    like = next((p for p in module.parameters()), torch.empty(0))
    with _mode(module, training=False), FakeTensorMode() as pretending, torch.no_grad():
        state: dict[str, Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        stand_ins: dict[str, Tensor] = {name: pretending.from_tensor(tensor) for name, tensor in state.items()}
        images = torch.zeros(2, *image, dtype=like.dtype, device=like.device)
        return torch.func.functional_call(module, stand_ins, (images,))


def _pair(value: int | tuple[int, ...] | None) -> tuple[int, int]:
    if value is None:
        return 1, 1
    return (value, value) if isinstance(value, int) else (value[0], value[1])
