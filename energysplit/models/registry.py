"""Registered models: builders that energysplit knows by a word.

Their arguments are checked against their annotations before anything is made; a recipe's `model.args` come here
unchanged.
"""

from __future__ import annotations

import inspect
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
        raise InputError(f"no registered model {name!r}; {nearest(name, _registered)}")
    return _registered[name].parameters


def image(name: str, args: Mapping[str, Any]) -> Shape:
    """An image shape (channels, height, width) a registered model takes when built with `args`."""
    if "image" in args:
        channels, height, width = args["image"]
        return channels, height, width
    shape = _registered[name].image
    return (args.get("in_channels", shape[0]), *shape[1:])


def build_registered(name: str, args: Mapping[str, Any]) -> nn.Module:
    """A new module of a registered model.

    Raises:
        InputError: an argument is unknown or of the wrong type.
    """
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
