"""Models by name: registered builders, and "module:callable" of the user's own.

A built module carries `energysplit_builder = {"name": ..., "args": ...}`, so that a checkpoint can say how to build
it again without pickle. Arguments of registered builders are checked against their annotations before anything is
made; a recipe's `model.args` come here unchanged.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, ValidationError, validate_call
from torch import nn

from energysplit.errors import InputError, nearest

Count = Annotated[int, Field(gt=0)]
Shape = tuple[int, int, int]
Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class _Entry:
    checked: Callable[..., nn.Module]
    parameters: tuple[str, ...]
    image: Shape


_registered: dict[str, _Entry] = {}


def register(name: str, *, image: Shape) -> Callable[[Builder], Builder]:
    """A decorator that makes a builder known under `name`.

    Args:
        name: how recipes call it.
        image: (channels, height, width) of an image it takes with its default arguments.

    The builder's keyword arguments must be annotated with types that JSON has; they are checked strictly. An argument
    `in_channels` or `image` changes the example image, see `default_image`.
    """

    def keep(builder: Builder) -> Builder:
        checked = validate_call(config=ConfigDict(strict=True))(builder)
        _registered[name] = _Entry(checked, tuple(inspect.signature(builder).parameters), image)
        return builder

    return keep


def names() -> list[str]:
    """Names of the registered models, sorted."""
    return sorted(_registered)


def arguments(name: str) -> tuple[str, ...]:
    """Names of the arguments a registered model takes.

    Raises:
        InputError: no model of that name is registered.
    """
    if name not in _registered:
        raise InputError(_unknown(name))
    return _registered[name].parameters


def build(name: str, /, **args: Any) -> nn.Module:
    """A new module, with `energysplit_builder` set; its weights come from torch's global random state.

    Args:
        name: a registered name, or "module:callable" of an importable module: a class or function that makes a module.
        **args: handed to the builder; must be values that JSON has.

    Raises:
        InputError: unknown name, module or argument, or an argument of the wrong type; the message names it, what it
            takes, and the nearest valid one.

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
    module = _build_registered(name, stored) if name in _registered else _build_own(name, stored)
    # An instance attribute: copy.deepcopy and surgery on a copy keep it.
    module.energysplit_builder = {"name": name, "args": stored}  # type: ignore[assignment]
    return module


def default_image(name: str, args: Mapping[str, Any] | None = None) -> Shape:
    """An image shape (channels, height, width) the model takes when built with `args`.

    Raises:
        InputError: a model of the user's own, whose images only the user knows, or an unknown name.

    Example:
        >>> default_image("mobilenet_v1"), default_image("mobilenet_v1_cifar", {"in_channels": 1})
        ((3, 224, 224), (1, 32, 32))
    """
    if name not in _registered:
        if ":" in name:
            raise InputError(
                f"model {name!r} is not built in, so its image size is not known; give channels, height and width"
            )
        raise InputError(_unknown(name))
    args = args or {}
    if "image" in args:
        channels, height, width = args["image"]
        return channels, height, width
    image = _registered[name].image
    return (args.get("in_channels", image[0]), *image[1:])


def _build_registered(name: str, args: Mapping[str, Any]) -> nn.Module:
    entry = _registered[name]
    for key in args:
        if key not in entry.parameters:
            raise InputError(
                f"model {name!r} takes no argument {key!r}; {nearest(key, entry.parameters)} "
                f"(valid: {', '.join(entry.parameters)})"
            )
    try:
        return entry.checked(**args)
    except RuntimeError as error:  # torch can't make tensors of this size
        raise InputError(f"model {name!r} can't be built with {dict(args)}: {error}") from error
    except ValidationError as error:
        # A union reports each member's complaint; the first argument's are enough to say what is wrong.
        problems = error.errors()
        key = str(problems[0]["loc"][0])
        reasons = [problem["msg"] for problem in problems if str(problem["loc"][0]) == key]
        reason = " or ".join(dict.fromkeys(reason[0].lower() + reason[1:] for reason in reasons))
        raise InputError(
            f"model {name!r}: argument {key} = {args.get(key)!r}: {reason} "
            f"(valid arguments: {', '.join(entry.parameters)})"
        ) from error


def _build_own(name: str, args: Mapping[str, Any]) -> nn.Module:
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise InputError(_unknown(name))
    if not module_name or not attribute.isidentifier():
        raise InputError(f"model {name!r}: expected 'module:callable', such as 'my_models:SmallNet'")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, TypeError, ValueError) as error:
        raise InputError(
            f"model {name!r}: module {module_name!r} can't be imported ({error}); "
            "install it or put its folder on PYTHONPATH"
        ) from error
    builder = getattr(module, attribute, None)
    if builder is None:
        known = [word for word, value in vars(module).items() if callable(value) and not word.startswith("_")]
        hint = nearest(attribute, known) if known else "it defines nothing that can be called"
        raise InputError(f"model {name!r}: module {module_name!r} has no {attribute!r}; {hint}")
    if not callable(builder):
        raise InputError(
            f"model {name!r}: expected a class or function that makes a module, got {type(builder).__name__}"
        )
    _check_arguments(name, builder, args)
    made = builder(**args)
    if not isinstance(made, nn.Module):
        raise InputError(f"model {name!r}: expected it to make a torch.nn.Module, got {type(made).__name__}")
    return made


def _check_arguments(name: str, builder: Callable[..., Any], args: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(builder)
    except ValueError:
        # Some built-in callables have no signature; they are then simply called.
        return
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    for key in args:
        if key not in signature.parameters and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise InputError(
                f"model {name!r} takes no argument {key!r}; {nearest(key, signature.parameters)} "
                f"(valid: {', '.join(signature.parameters) or 'none'})"
            )
    try:
        signature.bind(**args)
    except TypeError as error:
        raise InputError(f"model {name!r}: {error} (valid: {', '.join(signature.parameters) or 'none'})") from error


def _unknown(name: str) -> str:
    return (
        f"unknown model {name!r}; {nearest(name, names())} (known: {', '.join(names())}; your own: 'module:callable')"
    )
