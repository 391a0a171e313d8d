"""Torchvision's models under their own names: "torchvision:resnet18".

Only names that torchvision lists are built, so a name from a file can't make it run anything else. Nothing is fetched:
weights are taken from a file or from torch's cache.
"""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from energysplit.errors import InputError, nearest

PREFIX = "torchvision:"
SIDE = 224
INCEPTION_SIDE = 299

# Heads beside the last one, which only training uses: their loss has no place in a recipe.
_AUXILIARY = ("googlenet", "inception_v3")
AUXILIARY_TENSORS = ("AuxLogits.", "aux1.", "aux2.")


def names() -> list[str]:
    """Names of torchvision's builders, sorted, without the prefix."""
    from torchvision.models import list_models

    return sorted(list_models())


def build(model: str, args: Mapping[str, Any]) -> nn.Module:
    """A new module, without weights of anybody's.

    GoogLeNet and Inception v3 are built without auxiliary heads, and with torch's initial weights in place of
    truncated normal ones, which take long to draw, unless `args` say otherwise.

    Raises:
        InputError: torchvision has no such model, or can't build it with these arguments.
    """
    from torchvision.models import get_model_builder

    _check(model)
    builder = get_model_builder(model)
    parameters = inspect.signature(builder).parameters
    # Detection and segmentation models take trained backbones unless told not to.
    settings: dict[str, Any] = {key: None for key in ("weights", "weights_backbone") if key in parameters}
    if taken := sorted(args.keys() & {"weights_backbone", "progress"}):
        raise InputError(f"model '{PREFIX}{model}' takes no argument {taken[0]!r} here; set weights to a file's path")
    if model.removeprefix("quantized_") in _AUXILIARY:
        settings |= {"aux_logits": False, "init_weights": False}
    try:
        return builder(**{**settings, **args})
    except Exception as error:  # torchvision checks arguments by whatever error comes
        raise InputError(
            f"model '{PREFIX}{model}' can't be built with {dict(args)}: {error} (arguments: {_arguments(builder)})"
        ) from error


def image_side(model: str, args: Mapping[str, Any]) -> int:
    """Height and width of the images the model is meant for: its `image_size`, 299 for Inception v3, else 224."""
    size = args.get("image_size")
    return size if isinstance(size, int) else INCEPTION_SIDE if "inception_v3" in model else SIDE


def implied(model: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that trained weights imply: the input scaling GoogLeNet and Inception v3 were trained with."""
    return {"transform_input": True} if model in _AUXILIARY and "transform_input" not in args else {}


def trained(model: str, word: str) -> Path:
    """The file of torchvision's weights of that name ("DEFAULT", "IMAGENET1K_V1"), which must be in torch's cache.

    Raises:
        InputError: torchvision has no such weights for the model, or their file is not there.
    """
    from torchvision.models import get_model_weights

    _check(model)
    known = get_model_weights(model).__members__
    word = word.rpartition(".")[2]
    if word not in known:
        raise InputError(
            f"model '{PREFIX}{model}': weights = {word!r} is neither a file (.pth, .pt, .safetensors) nor weights of "
            f"torchvision's; {nearest(word, known) if known else 'it has none for this model'}"
        )
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(known[word].url).name
    if not file.is_file():
        raise InputError(
            f"model '{PREFIX}{model}': weights = {word!r} are not in torch's cache ({file}), and nothing is fetched "
            f"here; fetch {known[word].url} once and give its path, or put it there"
        )
    return file


def renamed(name: str) -> str:
    """A tensor's name in a file of today, from one in a file of old (torchvision's DenseNets)."""
    block, dot, rest = name.partition(".denselayer")
    number, _, part = rest.partition(".")
    for old in ("norm.1.", "norm.2.", "conv.1.", "conv.2."):
        if dot and part.startswith(old):
            return f"{block}{dot}{number}.{part.replace('.', '', 1)}"
    return name


def _check(model: str) -> None:
    if model not in names():
        close = difflib.get_close_matches(model, names(), n=1)
        hint = f"did you mean '{PREFIX}{close[0]}'?" if close else "torchvision.models.list_models() lists those it has"
        raise InputError(f"unknown model '{PREFIX}{model}'; {hint}")


def _arguments(builder: Callable[..., nn.Module]) -> str:
    """What a builder and the class it makes take, as far as they say."""
    kind = typing.get_type_hints(builder).get("return")
    found = dict(inspect.signature(builder).parameters)
    if isinstance(kind, type):
        found |= inspect.signature(kind).parameters
    hidden = ("weights", "weights_backbone", "progress")
    return ", ".join(n for n, p in found.items() if n not in hidden and p.default is not inspect.Parameter.empty)
