"""timm's models under their own names: "timm:repvgg_a0". timm is not needed unless one of them is named.

Only names that timm lists are built, and no argument that makes timm fetch or read anything is handed on.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from energysplit.errors import InputError, MissingExtra, nearest

PREFIX = "timm:"

# What makes timm read files, reach for the network, or change its own global settings.
_REFUSED = ("checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit")


def installed() -> bool:
    """Whether timm is there; found without importing it."""
    return find_spec("timm") is not None


def names() -> list[str]:
    """Names of timm's models, sorted, without the prefix.

    Raises:
        MissingExtra: timm is not installed.
    """
    return sorted(_timm().list_models())


def build(model: str, args: Mapping[str, Any]) -> nn.Module:
    """A new module, without weights of anybody's.

    Raises:
        InputError: timm is not installed, has no such model, or can't build it with these arguments.
    """
    timm = _timm()
    _check(model)
    for key in args:
        if key.startswith("pretrained") or key in _REFUSED:
            raise InputError(f"model '{PREFIX}{model}' takes no argument {key!r} here; set weights to a file's path")
    try:
        return timm.create_model(model, pretrained=False, **args)
    except Exception as error:  # timm checks arguments by whatever error comes
        raise InputError(f"model '{PREFIX}{model}' can't be built with {dict(args)}: {error}") from error


def image(model: str, args: Mapping[str, Any]) -> tuple[int, int, int]:
    """(channels, height, width) of the images the model is meant for, as timm's own configuration says.

    Raises:
        InputError: timm is not installed or has no such model.
    """
    _check(model)
    config = _timm().get_pretrained_cfg(model)
    channels, height, width = (3, 224, 224) if config is None else config.input_size
    size = args.get("img_size", (height, width))
    height, width = (size, size) if isinstance(size, int) else size
    return args.get("in_chans", channels), height, width


def trained(model: str, word: str) -> Path:
    """The file of timm's weights of that name ("DEFAULT", or a tag such as "in1k"), which must be in a local cache.

    Raises:
        InputError: timm has no such weights for the model, or their file is not there.
    """
    timm = _timm()
    _check(model)
    known = [name.partition(".")[2] for name in timm.list_pretrained(f"{model}.*")]
    if word != "DEFAULT" and word not in known:
        raise InputError(
            f"model '{PREFIX}{model}': weights = {word!r} is neither a file (.pth, .pt, .safetensors) nor weights of "
            f"timm's; {nearest(word, known) if known else 'it has none for this model'}"
        )
    config = timm.get_pretrained_cfg(model if word == "DEFAULT" else f"{model}.{word}")
    if config is not None and config.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(config.hf_hub_id, config.hf_hub_filename or "model.safetensors")
        if isinstance(found, str):
            return Path(found)
    if config is not None and config.url:
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(config.url).name
        if file.is_file():
            return file
    raise InputError(
        f"model '{PREFIX}{model}': weights = {word!r} are not in a local cache, and nothing is fetched here; "
        "fetch them once with timm, or give the path of a file"
    )


def _check(model: str) -> None:
    if model not in names():
        close = difflib.get_close_matches(model, names(), n=1)
        hint = f"did you mean '{PREFIX}{close[0]}'?" if close else "timm.list_models() lists those it has"
        raise InputError(f"unknown model '{PREFIX}{model}'; {hint}")


def _timm() -> Any:
    if not installed():
        raise MissingExtra("models 'timm:...' need timm, which is not installed: pip install timm")
    import timm

    return timm
