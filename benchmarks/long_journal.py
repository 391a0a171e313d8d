"""How long it takes to read the journal of a very long growth.

    python benchmarks/long_journal.py [--stages 10000] [--groups 14] [--repeats 7] [--out benchmarks/results]

The journal is made of one line of a kept run, with the groups of a MobileNet. Processor seconds leave out what
a busy machine does besides.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from common import machine

from energysplit.growth import journal
from energysplit.output.atomic import write_text
from energysplit.records import JOURNAL_FILE, AllocationRecord, GrowthRecord, SplitRecord, StepRecord

LINE = Path(__file__).parents[1] / "tests" / "growth" / "journal_before_kinds.jsonl"


def main() -> None:
    """Write a journal, read it again and again, and print the times as a table."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--stages", type=int, default=10_000)
    made.add_argument("--groups", type=int, default=14)
    made.add_argument("--repeats", type=int, default=7)
    made.add_argument("--out", type=Path, help="folder for the table")
    options = made.parse_args()
    lines = records(options.stages, options.groups)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / JOURNAL_FILE
        journal.rewrite(path, lines)
        size = path.stat().st_size
        times = [seconds(path) for _ in range(options.repeats)]
    text = [f"{options.stages:,} stages, {options.groups} groups, {size / 1e6:.1f} MB; {machine()}", ""]
    text += ["| reading the journal | median | lowest | highest |", "| --- | --- | --- | --- |"]
    for name, found in zip(("seconds", "processor seconds"), zip(*times, strict=True), strict=True):
        text.append(f"| {name} | {median(found):.2f} | {min(found):.2f} | {max(found):.2f} |")
    print("\n".join(text))
    if options.out:
        write_text(options.out / "long_journal.md", "\n".join(["# Reading a long journal", "", *text, ""]))


def seconds(path: Path) -> tuple[float, float]:
    """Wall and processor time of reading a journal, which is given back before the next."""
    wall, processor = time.perf_counter(), time.process_time()
    journal.read(path)
    return time.perf_counter() - wall, time.process_time() - processor


def records(stages: int, groups: int) -> list[GrowthRecord]:
    """Lines of a growth in which five neurons of each group are split at every stage."""
    (line,) = journal.read(LINE)
    assert line.growth is not None
    names = [f"features.block{number}.pointwise.conv" for number in range(groups)]
    split = {name: list(range(5)) for name in names}
    growth = SplitRecord(
        **{
            **dict(line.growth),
            "allocation": AllocationRecord(**{**dict(line.growth.allocation), "split": split}),
            "step": StepRecord(**{**dict(line.growth.step), "size": dict.fromkeys(names, 0.3)}),
        }
    )
    widths = dict.fromkeys(names, 64)
    return [GrowthRecord(**{**dict(line), "stage": n, "widths": widths, "growth": growth}) for n in range(stages)]


if __name__ == "__main__":
    main()
