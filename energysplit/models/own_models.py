"""Models of the user's own, named "module:callable": importing the module runs its code."""

from __future__ import annotations

import importlib
import inspect
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from energysplit.errors import InputError, nearest


def build(name: str, args: Mapping[str, Any]) -> nn.Module:
    """What the callable makes of the arguments.

    Raises:
        InputError: no such module or callable, other arguments than it takes, or what it makes is no module; or making
            it raised an error.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute.isidentifier():
        raise InputError(f"model {name!r}: expected 'module:callable', such as 'my_models:SmallNet'")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's module runs
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
    try:
        made = builder(**args)
    except MemoryError:
        raise
    except Exception as error:  # whatever the user's code raises, such as weights that do not fit or are not there
        raise InputError(
            f"model {name!r}: {_place(error)}{type(error).__name__}: {error}; does it take "
            f"{', '.join(f'{key} = {value!r}' for key, value in args.items()) or 'no arguments'} (model.args)?"
        ) from error
    if not isinstance(made, nn.Module):
        raise InputError(f"model {name!r}: expected it to make a torch.nn.Module, got {type(made).__name__}")
    return made


def _place(error: Exception) -> str:
    """Where in the user's own code an error came up, as far as it did."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # without this module's own
    theirs = [frame for frame in frames if frame.filename == frames[0].filename]
    return f"{Path(theirs[-1].filename).name}, line {theirs[-1].lineno}: " if theirs else ""


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
