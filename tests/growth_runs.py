"""A tiny growth the tests run, also in processes that are killed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from energysplit import growth
from energysplit.output.atomic import write_text
from energysplit.recipe import Recipe

TINY: dict[str, Any] = {
    "name": "tiny",
    "model": {"name": "cnn", "args": {"widths": [3, 4], "in_channels": 1, "activation": "silu"}},
    "data": {"name": "digits"},
    "train": {"epochs": 2, "batch_size": 128, "learning_rate": 0.1},
    "index": {"images": 128, "held_out_images": 128, "sweeps": 4},
    "step": {"policy": "relative", "size": 0.3},
    "growth": {"stages": 2},
    "budget": [{"provider": "macs", "limit": "1.6x", "scope": "stage"}],
    "run": {"device": "cpu", "threads": 1},
    "export": {"onnx": False},
}


def tiny(**sections: dict[str, Any]) -> Recipe:
    """The tiny recipe with some keys of some sections changed."""
    changed = {
        key: {**value, **sections.get(key, {})} if isinstance(value, dict) else value for key, value in TINY.items()
    }
    added = {key: value for key, value in sections.items() if key not in TINY or not isinstance(value, dict)}
    return Recipe.model_validate({**changed, **added})


def journal(folder: Path) -> list[dict[str, Any]]:
    """The journal's lines without the times, which differ between runs, and the checksum over them."""
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("seconds", "checksum")} for line in lines]


def files(folder: Path) -> dict[str, bytes]:
    """Content of every stage's files."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted((folder / "stages").rglob("*")) if p.is_file()}


def grow_in_child(folder: str, **sections: dict[str, Any]) -> None:
    """Run or resume the tiny growth, some keys changed, without the figures, which take longest; for children."""
    growth.loop.write_report = lambda path, *_: write_text(path / "report.html", "figures left out")
    growth.grow(tiny(**sections), run_dir=folder, resume=True)


def grow_and_die_at(folder: str, operation: int, **sections: dict[str, Any]) -> None:
    """The same, dying without any clean-up at the n-th file operation that changes the disk's names or content."""
    count = 0

    def mortal(function: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == operation:
                os._exit(137)
            return function(*args, **kwargs)

        return wrapped

    for name in ("rename", "replace", "write", "mkdir"):
        setattr(os, name, mortal(getattr(os, name)))
    grow_in_child(folder, **sections)
