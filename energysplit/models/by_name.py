"""Any model by name: a registered word, "torchvision:NAME", "timm:NAME", or "module:callable" of the user's own.

The first three need no code of the user's, so that a checkpoint that names one can be loaded by anybody. A built module
carries `energysplit_builder = {"name": ..., "args": ...}`, so that a checkpoint can say how to build it again without
pickle. Trained weights (`weights`, see `build`) are no part of that: a checkpoint holds all numbers itself.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from energysplit.errors import InputError
from energysplit.models import own_models, pretrained, registry, timm_models, torchvision_models
from energysplit.models.registry import Shape

_MADE_BY_LAYERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)


def built_in(name: str) -> bool:
    """Whether building it runs code of energysplit, torchvision or timm only."""
    return name in registry.names() or name.startswith((torchvision_models.PREFIX, timm_models.PREFIX))


def resolve(name: str) -> str:
    """The full name of a model called by a short one: registered, else torchvision's, else timm's if that is installed.

    Raises:
        InputError: nobody has a model of that name; the message proposes the nearest ones.
    """
    if ":" in name or name in registry.names():
        return name
    if name in torchvision_models.names():
        return torchvision_models.PREFIX + name
    if timm_models.installed() and name in timm_models.names():
        return timm_models.PREFIX + name
    raise InputError(_unknown(name))


def build(name: str, /, **args: Any) -> nn.Module:
    """A new module, with `energysplit_builder` set; its weights come from torch's global random state.

    Args:
        name: a registered name, "torchvision:NAME", "timm:NAME", or "module:callable" of an importable module: a class
            or function that makes a module.
        **args: handed to the builder; must be values that JSON has. All but "module:callable" take `weights`: the path
            of a file of trained weights (relative to the working directory), or the name torchvision or timm gives them
            ("DEFAULT"), if their file is in the local cache. A classifier of another number of classes starts fresh.

    Raises:
        InputError: unknown name, module or argument, an argument of the wrong type, or weights that are not there or
            do not fit; the message names it, what is expected, and the nearest valid one.

    Example:
        >>> net = build("mlp", image=[1, 8, 8], widths=[4])
        >>> net.energysplit_builder
        {'name': 'mlp', 'args': {'image': [1, 8, 8], 'widths': [4]}}
    """
    try:
        stored = json.loads(json.dumps(args))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"model {name!r}: arguments must be numbers, words, lists or tables, "
            f"so that checkpoints can hold them ({error})"
        ) from error
    weights = stored.pop("weights", None) if built_in(name) else None
    source, _, model = name.partition(":")
    if weights is not None and source == "torchvision":
        stored |= torchvision_models.implied(model, stored)
    module = _make(name, stored)
    if weights is not None:
        _fill(module, name, stored, weights)
    # An instance attribute: copy.deepcopy and surgery on a copy keep it.
    module.energysplit_builder = {"name": name, "args": stored}  # type: ignore[assignment]
    return module


def build_seed(name: str, args: Mapping[str, Any]) -> nn.Module:
    """What `build` makes, without reading trained weights: for whoever needs its structure only.

    Weights of a "module:callable" are its own affair and are handed on.
    """
    if not built_in(name) or "weights" not in args:
        return build(name, **args)
    args = {key: value for key, value in args.items() if key != "weights"}
    source, _, model = name.partition(":")
    return build(name, **args, **(torchvision_models.implied(model, args) if source == "torchvision" else {}))


def rebuild(name: str, args: Mapping[str, Any]) -> nn.Module:
    """A module as a file from anybody describes it: nothing is imported, read or fetched on the file's word.

    Raises:
        InputError: it names code of somebody's own, or a file of weights, or can't be built.
    """
    if not built_in(name):
        raise InputError(f"model {name!r} is not built in, and code that a file names is not run")
    if "weights" in args:
        raise InputError(f"model {name!r}: a file of weights that another file names is not read")
    return build(name, **args)


def shapes(name: str, args: Mapping[str, Any]) -> dict[str, torch.Size]:
    """Tensor name -> shape of the state of a module as `rebuild` makes it, without taking memory for it."""
    # timm makes everything on the device it is told; torchvision's RegNets compute their widths with tensors.
    without_memory = torch.device("meta") if name.startswith(timm_models.PREFIX) else _NoMemory()
    with torch.random.fork_rng(devices=[]), without_memory:
        return {key: tensor.shape for key, tensor in rebuild(name, args).state_dict().items()}


def default_image(name: str, args: Mapping[str, Any] | None = None) -> Shape:
    """An image shape (channels, height, width) the model takes when built with `args`.

    Raises:
        InputError: a model of the user's own, whose images only the user knows, or an unknown name.

    Example:
        >>> default_image("mobilenet_v1"), default_image("mobilenet_v1_cifar", {"in_channels": 1})
        ((3, 224, 224), (1, 32, 32))
        >>> default_image("torchvision:inception_v3")
        (3, 299, 299)
    """
    args = args or {}
    source, colon, model = name.partition(":")
    if name in registry.names():
        return registry.image(name, args)
    if not colon:
        raise InputError(_unknown(name))
    if source == "torchvision":
        side = torchvision_models.image_side(model, args)
        return 3, side, side
    if source == "timm":
        return timm_models.image(model, args)
    raise InputError(
        f"model {name!r} is not built in, so its image size is not known; give channels, height and width "
        "(on the command line --image 3,224,224)"
    )


def _make(name: str, args: Mapping[str, Any]) -> nn.Module:
    source, colon, model = name.partition(":")
    if name in registry.names():
        return registry.build_registered(name, args)
    if not colon:
        raise InputError(_unknown(name))
    if source == "torchvision":
        return torchvision_models.build(model, args)
    return timm_models.build(model, args) if source == "timm" else own_models.build(name, args)


def _fill(module: nn.Module, name: str, args: Mapping[str, Any], weights: Any) -> None:
    """Put trained weights into a fresh module."""
    source, _, model = name.partition(":")
    if not isinstance(weights, str):
        raise InputError(f"model {name!r}: weights = {weights!r}: the path of a file expected")
    if pretrained.is_file(weights) or name in registry.names():
        file = Path(weights).expanduser()
    else:
        file = (torchvision_models if source == "torchvision" else timm_models).trained(model, weights)
    pretrained.load_weights(
        module,
        file,
        classifier=_classifier(name, args),
        unused=torchvision_models.AUXILIARY_TENSORS if source == "torchvision" else (),
        renamed=torchvision_models.renamed if source == "torchvision" else str,
    )


def _classifier(name: str, args: Mapping[str, Any]) -> list[str]:
    """Tensors whose shape depends on the number of classes."""
    key = "classes" if name in registry.names() else "num_classes"
    first, second = (shapes(name, {**args, key: count}) for count in (2, 3))
    return [tensor for tensor, shape in first.items() if second[tensor] != shape]


class _NoMemory(TorchFunctionMode):
    """What layers make has a shape but no memory; the few numbers a builder computes widths with stay numbers."""

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in _MADE_BY_LAYERS and given.get("device") is None:
            given["device"] = "meta"
        return func(*args, **given)


def _unknown(name: str) -> str:
    """The sentence that proposes the nearest known models; timm is asked last, and only if it is installed."""
    known = {model: torchvision_models.PREFIX + model for model in torchvision_models.names()}
    known |= {model: model for model in registry.names()}
    close = [name] if name in known else difflib.get_close_matches(name, known)
    if not close and timm_models.installed():
        known = {model: timm_models.PREFIX + model for model in timm_models.names()}
        close = [name] if name in known else difflib.get_close_matches(name, known)
    hint = f"did you mean {' or '.join(repr(known[word]) for word in close)}? " if close else ""
    return (
        f"unknown model {name!r}; {hint}(built in: {', '.join(registry.names())}; all others: 'torchvision:NAME', "
        "'timm:NAME', your own 'module:callable')"
    )
