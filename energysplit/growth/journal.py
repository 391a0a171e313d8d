"""The journal of a run: one `GrowthRecord` a line, appended whole or not at all.

The journal is the truth about a run: a stage has happened when its line is there. Everything else in the run folder
is made before the line is written, and can be made again from the line before it.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from energysplit.cycles import uncollected
from energysplit.errors import CheckpointError
from energysplit.output.atomic import append_line, write_text
from energysplit.plain_data import CHECKSUM, read_file
from energysplit.records import GrowthRecord

_END = re.compile(rb',"' + CHECKSUM.encode() + rb'":"([0-9a-f]{64})"\}\Z')


def append(path: Path, record: GrowthRecord) -> None:
    """Add one record; on disk when this returns."""
    append_line(path, _line(record))


def read(path: Path | str) -> list[GrowthRecord]:
    """All records of a journal.

    Raises:
        CheckpointError: the file is missing or a line is damaged; the message names the line.
    """
    records, damage = recover(path)
    if damage:
        raise CheckpointError(damage)
    return records


def recover(path: Path | str) -> tuple[list[GrowthRecord], str]:
    """The records before the first damaged line, and what is wrong with that line ("" if nothing is).

    Raises:
        CheckpointError: the file can't be read.
    """
    path = Path(path)
    try:
        lines = read_file(path).split(b"\n")
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}; a run's journal is expected there") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; a run's journal is expected there") from error
    torn = lines.pop()
    records: list[GrowthRecord] = []
    with uncollected():
        for number, line in enumerate(lines, start=1):
            try:
                record = _record(line)
            except ValueError as error:  # ValidationError is one
                return records, f"{path}, line {number}: damaged ({str(error).splitlines()[0]})"
            if record.stage != number - 1:
                return records, f"{path}, line {number}: holds stage {record.stage}, stage {number - 1} expected"
            records.append(record)
    return records, f"{path}, line {len(lines) + 1}: cut off" if torn else ""


def rewrite(path: Path, records: list[GrowthRecord]) -> None:
    """Replace the journal by these records, atomically."""
    write_text(path, "".join(_line(record) + "\n" for record in records))


def _line(record: GrowthRecord) -> str:
    """The record as JSON with a checksum over everything else, as it stands there, as its last key."""
    # Few lines have these; the others stay as they were before there were any.
    later = ("replacement", "notes", "then_fresh")
    text = record.model_dump_json(exclude={name for name in later if not getattr(record, name)})
    return f'{text[:-1]},"{CHECKSUM}":"{hashlib.sha256(text.encode()).hexdigest()}"}}'


def _record(line: bytes) -> GrowthRecord:
    """The record of a line. Its checksum is of the line's own text, so lines without later fields stay readable.

    Raises:
        ValueError: it has no checksum, its checksum differs, or it is not a record.
    """
    end = _END.search(line)
    if end is None:
        raise ValueError("it does not end in a checksum")
    text = line[: end.start()] + b"}"
    if hashlib.sha256(text).hexdigest() != end[1].decode():
        raise ValueError("its checksum differs")
    return GrowthRecord.model_validate_json(text)
