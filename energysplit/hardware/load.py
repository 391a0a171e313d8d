"""Finds and reads hardware profiles: those that come with the package by name, others by path."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from energysplit.errors import InputError, nearest
from energysplit.hardware.detect import draft
from energysplit.hardware.schema import HardwareProfile
from energysplit.plain_data import read_toml
from energysplit.recipe.explain import explain

FOLDER = Path(__file__).parent / "profiles"


def built_in() -> list[str]:
    """Names of the profiles that come with the package, sorted.

    Example:
        >>> "generic_45nm" in built_in()
        True
    """
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(profile: str | Path | HardwareProfile) -> HardwareProfile:
    """The hardware profile of that name, or in that file; one that is loaded already is handed back.

    Args:
        profile: the name of a built-in profile, or the path of a TOML file (a `Path`, or a string that ends in ".toml"
            or holds a "/").

    Raises:
        InputError: no such profile or file, the file is no TOML, or a key is unknown, missing or has a wrong value;
            the message names file, key, what was given and what was expected.
    """
    if isinstance(profile, HardwareProfile):
        return profile
    if not isinstance(profile, str | Path):
        raise InputError(
            f"hardware profile {profile!r}: expected the name of a built-in profile or the path of a TOML file"
        )
    if isinstance(profile, Path) or profile.endswith(".toml") or "/" in profile or "\\" in profile:
        return read(Path(profile))
    if profile not in (known := built_in()):
        close = nearest(profile, known)
        hint = f"{close} " if close.startswith("did you mean") else ""
        raise InputError(
            f"no hardware profile {profile!r}; {hint}There are: {', '.join(known)}; your own: the path of a TOML file, "
            "which `energysplit profile --detect` drafts"
        )
    return read(FOLDER / f"{profile}.toml")


def this_machine() -> HardwareProfile:
    """The profile `detect` drafts of the machine this runs on."""
    return from_dict(tomllib.loads(draft()), "this machine")


def read(path: Path) -> HardwareProfile:
    """The hardware profile in a TOML file.

    Raises:
        InputError: see `load`.
    """
    shown = path.name if path.parent == FOLDER else str(path)
    try:
        if path.is_dir():
            raise InputError(f"{shown}: is a folder; expected a hardware profile (TOML)")
        tree = read_toml(path)
    except FileNotFoundError:
        beside = [other.name for other in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        close = nearest(path.name, beside)
        names = f"a TOML file, or one of the built-in names {', '.join(built_in())}"
        advice = close if close.startswith("did you mean") else f"expected {names}"
        raise InputError(f"{shown}: no such hardware profile; {advice}") from None
    except OSError as error:
        raise InputError(f"{shown}: can't be read: {error.strerror}; expected a readable TOML file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{shown}: not UTF-8 text (byte {error.start}); expected a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{shown}: not valid TOML: {error}") from None
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{shown[:200]}: can't be read as TOML ({error}); expected a hardware profile") from None
    return from_dict({"name": path.stem, **tree}, shown)


def from_dict(tree: Mapping[str, Any], source: str = "hardware profile") -> HardwareProfile:
    """The hardware profile in a plain dictionary. `source` names it in messages.

    Raises:
        InputError: a key is unknown, missing or has a wrong value.
    """
    try:
        return HardwareProfile.model_validate(tree)
    except ValidationError as error:
        said = explain(error, HardwareProfile, tree, lambda _: source)
        # What holds for the whole profile has no key of its own.
        raise InputError(said.replace(f"{source}: : ", f"{source}: ")) from None
