"""The journal's lines: whole or refused, and readable in later versions."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from energysplit.errors import CheckpointError
from energysplit.growth import journal
from energysplit.records import JOURNAL_FILE, AllocationRecord, GrowthRecord, SplitRecord

BEFORE_KINDS = Path(__file__).with_name("journal_before_kinds.jsonl")
"""The first line of a growth of `growth_runs.tiny` (one epoch, one stage) by the version before signed splits."""


@pytest.fixture
def old() -> GrowthRecord:
    (record,) = journal.read(BEFORE_KINDS)
    return record


def signed(record: GrowthRecord) -> GrowthRecord:
    """The record as a signed growth would have written it."""
    assert record.growth is not None
    kinds = {"blocks.0.conv": {2: "quadruple"}, "blocks.1.conv": {0: "pair"}}
    allocation = AllocationRecord(**{**dict(record.growth.allocation), "kinds": kinds, "mass": 2.0})
    growth = SplitRecord(**{**dict(record.growth), "allocation": allocation})
    return GrowthRecord(**{**dict(record), "growth": growth})


def test_a_line_from_before_signed_splits_is_read(old):
    assert "kinds" not in BEFORE_KINDS.read_text()
    assert old.growth is not None
    assert old.growth.allocation.split == {"blocks.0.conv": [2], "blocks.1.conv": [0]}
    assert (old.growth.allocation.kinds, old.growth.allocation.mass) == ({}, 1.0)


def test_old_and_new_lines_stand_in_one_journal(old, tmp_path):
    path = tmp_path / JOURNAL_FILE
    path.write_bytes(BEFORE_KINDS.read_bytes())
    new = signed(GrowthRecord(**{**dict(old), "stage": 1}))
    journal.append(path, new)
    assert journal.read(path) == [old, new]
    assert path.read_bytes().startswith(BEFORE_KINDS.read_bytes())
    journal.rewrite(path, [old, new])
    assert journal.read(path) == [old, new]
    assert journal.read(path)[1].growth.allocation.kinds["blocks.0.conv"] == {2: "quadruple"}


@pytest.mark.parametrize("which", ["old", "new"])
def test_a_flipped_byte_anywhere_is_noticed(old, tmp_path, which):
    path = tmp_path / JOURNAL_FILE
    if which == "old":
        path.write_bytes(BEFORE_KINDS.read_bytes())
    else:
        journal.append(path, signed(old))
    whole = path.read_bytes()
    chance = random.Random(0)
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        records, damage = journal.recover(path)
        assert damage, f"byte {place}: {whole[place : place + 1]!r} -> {flipped[place : place + 1]!r}"
        assert records == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line.replace('"stage":0', '"stage":1'), "its checksum differs"),
        (lambda line: line.replace("milp", "MILP"), "its checksum differs"),
        (lambda line: line.replace(',"checksum"', ', "checksum"'), "it does not end in a checksum"),
        (lambda line: json.dumps({k: v for k, v in json.loads(line).items() if k != "checksum"}), "end in a checksum"),
        (lambda line: line + " ", "it does not end in a checksum"),
        (lambda _: "3", "it does not end in a checksum"),
    ],
)
def test_a_line_that_was_edited_is_named(tmp_path, change, message):
    path = tmp_path / JOURNAL_FILE
    path.write_text(change(BEFORE_KINDS.read_text().removesuffix("\n")) + "\n")
    with pytest.raises(CheckpointError, match=rf"journal.jsonl, line 1: damaged \(.*{message}\)"):
        journal.read(path)
