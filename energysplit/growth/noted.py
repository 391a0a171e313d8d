"""What a run noted of things outside its folder when it began, and holds on to: it would not end where it was going."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from energysplit.errors import RunError
from energysplit.output.atomic import write_text
from energysplit.plain_data import read_json

DATA_FILE, DATA_KEY = "data.json", "files_sha256"


def hold(file: Path, facts: Mapping[str, str], key: str, changed: str) -> None:
    """Note the facts in a run folder, or check one of them against what is noted there.

    Args:
        file: of the note.
        facts: what is so now.
        key: of the fact that must stay.
        changed: what to say if it did not.

    Raises:
        RunError: `changed`, or the note can't be read.
    """
    if not file.exists():
        write_text(file, json.dumps(dict(facts), indent=2) + "\n")
    elif noted(file, key) != facts[key]:
        raise RunError(changed)


def noted(file: Path, key: str) -> str:
    """One fact of a note.

    Raises:
        RunError: the note can't be read.
    """
    try:
        return str(read_json(file)[key])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} can't be read ({error}); choose another folder with --run") from error
