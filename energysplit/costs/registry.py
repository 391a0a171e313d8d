"""Cost providers by name: the built-in ones, those a user registers, and those named "module:Class".

A provider is any object with a `unit` and a `price(case)`; see `energysplit.types.CostProvider`. One whose layers'
costs are not added but compared (peak memory) declares `combine = "max"`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from energysplit.errors import EnergysplitError, InputError, nearest
from energysplit.types import CostProvider

P = TypeVar("P", bound=type)

_registered: dict[str, type] = {}

COMBINE = ("sum", "max")
ABILITIES = ("combine", "every_operation", "overhead", "network_error", "multiple_of", "provenance")
WHERE_GIVEN = "in a recipe under [hardware]; on the command line --tables, --profile"
"""Where a provider's tables and profile are given, other than as its arguments; for messages."""


def register_cost(name: str) -> Callable[[P], P]:
    """A class decorator that makes a cost provider known under `name`, in recipes and everywhere else.

    The same class may be registered again (a notebook cell run twice); another one under a taken name may not.

    Example:
        >>> from energysplit.types import Cost
        >>> @register_cost("doctest_channels")
        ... class Channels:
        ...     unit = "channel"
        ...     def price(self, case):
        ...         return Cost.exact(case.out_channels, self.unit)
        >>> cost_provider("doctest_channels").unit
        'channel'
        >>> del _registered["doctest_channels"]

    Raises:
        InputError: the name is empty, holds a colon, or is taken; or what is decorated is no class with `price`.
    """
    if not isinstance(name, str) or not name or ":" in name:
        raise InputError(f"cost name {name!r}: expected a non-empty word without a colon, such as 'latency'")

    def register(provider: P) -> P:
        if not isinstance(provider, type) or not callable(getattr(provider, "price", None)):
            raise InputError(f"cost {name!r}: {provider!r} can't be registered; expected a class with price(case)")
        taken = _registered.get(name)
        if taken is not None and _address(taken) != _address(provider):
            raise InputError(
                f"cost {name!r} is already registered by {_address(taken)}; "
                f"register {_address(provider)} under another name"
            )
        _registered[name] = provider
        return provider

    return register


def names() -> list[str]:
    """Names of the registered providers, sorted."""
    return sorted(_registered)


def cost_provider(provider: str | CostProvider, profile: object = None, **options: Any) -> CostProvider:
    """The cost provider of that name, or the one given, checked against the contract.

    Args:
        provider: a registered name, "module:Class" of an importable module, a class, or a ready object with `price`.
        profile: a hardware profile, handed to the class as `profile` when not None.
        **options: handed to the class.

    Raises:
        InputError: unknown name, module or class; options the class does not take; or an object that has no `unit`
            (a word) and `price(case)`, or whose `combine` or `multiple_of` is none, or that misspells an ability.
    """
    arguments = dict(options) if profile is None else {"profile": profile, **options}
    if isinstance(provider, str):
        label, factory = f"cost {provider!r}", _find(provider)
    elif isinstance(provider, type):
        label, factory = f"cost {provider.__name__}", provider
    else:
        label, factory = f"cost {provider!r}", provider
    made = factory
    if isinstance(factory, type) or (isinstance(provider, str) and not hasattr(factory, "price")):
        made = _make(label, factory, arguments)
    elif arguments:
        raise InputError(f"{label} is ready-made and takes no options, but {_listed(arguments)} given")
    _check(label, made)
    return made


def takes(name: str, argument: str) -> bool:
    """Whether the provider of that name has a parameter of that name; ready-made objects have none.

    Example:
        >>> takes("macs", "profile"), takes("roofline", "profile")
        (False, True)

    Raises:
        InputError: unknown name.
    """
    factory = _find(name)
    if not isinstance(factory, type) and hasattr(factory, "price"):
        return False
    try:
        return argument in inspect.signature(factory).parameters
    except (TypeError, ValueError):  # no callable, which cost_provider refuses, or a built-in without a signature
        return False


def provider_name(provider: str | CostProvider) -> str:
    """The name budgets and reports show: the registered name, else the class's name.

    Example:
        >>> provider_name("macs"), provider_name("my_module:Parameters")
        ('macs', 'Parameters')
    """
    if isinstance(provider, str):
        return provider.rpartition(":")[2]
    kind = provider if isinstance(provider, type) else type(provider)
    for name, registered in _registered.items():
        if registered is kind:
            return name
    return kind.__name__


def _find(name: str) -> Any:
    if name in _registered:
        return _registered[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise InputError(
            f"unknown cost provider {name!r}; {nearest(name, names())} "
            f"(registered: {', '.join(names())}; your own: 'module:Class')"
        )
    if not module_name or not attribute.isidentifier():
        raise InputError(f"cost provider {name!r}: expected 'module:Class', such as 'my_module:Parameters'")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, TypeError, ValueError) as error:
        raise InputError(
            f"cost provider {name!r}: module {module_name!r} can't be imported ({error}); "
            "install it or put its folder on PYTHONPATH"
        ) from error
    if not hasattr(module, attribute):
        defined = [word for word, value in vars(module).items() if isinstance(value, type)]
        hint = nearest(attribute, defined) if defined else "it defines no class"
        raise InputError(f"cost provider {name!r}: module {module_name!r} has no {attribute!r}; {hint}")
    return getattr(module, attribute)


def _make(label: str, factory: Any, arguments: Mapping[str, Any]) -> Any:
    if not callable(factory):
        raise InputError(f"{label}: expected a class or an object with price(case), got {type(factory).__name__}")
    try:
        signature = inspect.signature(factory)
    except ValueError:
        # Some built-in callables have no signature; they are then simply called.
        return _made(label, factory, arguments)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise InputError(
            f"{label}: {error}; given: {_listed(arguments) or 'no options'}, expected: {_taken(signature)}"
        ) from error
    return _made(label, factory, arguments)


def _made(label: str, factory: Any, arguments: Mapping[str, Any]) -> Any:
    try:
        return factory(**arguments)
    except (EnergysplitError, MemoryError):
        raise
    except Exception as error:  # whatever a user's provider raises, such as a table that is not there
        given = _listed(arguments) or "no options"
        raise InputError(f"{label}: can't be made with {given}: {type(error).__name__}: {error}") from error


def _check(label: str, provider: Any) -> None:
    unit = getattr(provider, "unit", None)
    if not isinstance(unit, str) or not unit:
        raise InputError(f"{label}: `unit` is {unit!r}, expected a word such as unit = 'J'")
    if not callable(getattr(provider, "price", None)):
        raise InputError(f"{label}: no method price(case) -> Cost; see energysplit.types.CostProvider")
    combine = getattr(provider, "combine", "sum")
    if combine not in COMBINE:
        raise InputError(
            f"{label}: combine is {combine!r}; expected 'sum' (layers add up) or 'max' (the largest counts)"
        )
    multiple = getattr(provider, "multiple_of", None)
    numbers = list(multiple.values()) if isinstance(multiple, Mapping) else [1 if multiple is None else multiple]
    if not all(isinstance(number, int) and number >= 1 for number in numbers):
        raise InputError(
            f"{label}: multiple_of is {multiple!r}; expected a whole number of at least 1, or one a kind of layer"
        )
    own = [word for word in dir(provider) if not word.startswith("_")]
    for ability in ABILITIES:
        close = [] if ability in own else difflib.get_close_matches(ability, own, n=1, cutoff=0.9)
        if close:
            raise InputError(
                f"{label}: has {close[0]!r}, which nothing reads; did you mean {ability!r}? Else rename it"
            )


def _address(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _listed(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())


def _taken(signature: inspect.Signature) -> str:
    return ", ".join(signature.parameters) or "no options"
