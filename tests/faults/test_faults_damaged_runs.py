"""Files of a run that were whole on the disk and are damaged later: found, named, or made again; never believed.

Every file of a finished run, and of one that was interrupted in a training, is cut, flipped, emptied, filled with zeros
or deleted. Then the run goes on, and reports, exports, allocations and comparisons read it: each ends as with the
undamaged folder, or in one error that names the file.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import growth_runs
import pytest
from typer.testing import CliRunner

from energysplit import growth
from energysplit.cli.app import app
from energysplit.errors import EnergysplitError
from energysplit.growth.folder import RunFolder
from energysplit.output.atomic import write_text
from energysplit.output.environment import read_environment
from energysplit.recipe.saved import saved_recipe

FLIPS = 6
RECIPE = growth_runs.tiny(
    train={"epochs": 2, "ema": 0.9, "patience": 3}, report={"providers": ["macs"]}, growth={"stages": 2}
)
MADE_AGAIN = ("report.html", "report.md", "figures/")
"""What a run that goes on writes anew, whatever is there; nothing reads it."""


@dataclass(frozen=True)
class Damage:
    """What happens to a file: its name, and its content after it, None for deleted."""

    name: str
    content: Callable[[bytes], bytes | None]


def flipped(data: bytes, place: int) -> bytes:
    """The content with one bit changed."""
    return data[:place] + bytes([data[place] ^ 1 << place % 7]) + data[place + 1 :]


def damages(data: bytes, name: str) -> Iterator[Damage]:
    """What is tried on a file: the flips at its first and last byte and between."""
    yield Damage("deleted", lambda data: None)
    yield Damage("emptied", lambda data: b"")
    yield Damage("cut in the middle", lambda data: data[: len(data) // 2])
    yield Damage("cut at its end", lambda data: data[:-1])
    yield Damage(
        "zeros at its end", lambda data: data[: -len(data) // 3] + bytes(len(data) - len(data[: -len(data) // 3]))
    )
    chance = Random(name)
    places = [0, len(data) - 1, *(chance.randrange(len(data)) for _ in range(FLIPS - 2))]
    for place in places:
        yield Damage(f"flipped at {place}", lambda data, place=place: flipped(data, place))


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr("energysplit.output.figure_style._save_svg", lambda *_: "<svg></svg>")
    monkeypatch.setattr("energysplit.output.figure_style.to_png", lambda *_, **__: b"png")
    monkeypatch.setattr(growth.loop, "write_report", _no_report)


def _no_report(path: Path, *_: object, **__: object) -> Path:
    return write_text(path / "report.html", "left out")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run, and what lay there after the first epoch of stage 1."""
    folder = tmp_path_factory.mktemp("runs")
    really = RunFolder.save_progress

    def save(self, state):
        really(self, state)
        if (state.stage, state.epoch) == (1, 1):
            shutil.copytree(self.path, folder / "interrupted")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "save_progress", save)
        patch.setattr(growth.loop, "write_report", _no_report)
        growth.grow(RECIPE, run_dir=folder / "finished")
    return {"finished": folder / "finished", "interrupted": folder / "interrupted"}


def files(run: Path) -> list[str]:
    """The files that a run has and reads, without its lock."""
    found = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and path.name != ".lock")
    return [name for name in found if not name.startswith(MADE_AGAIN)]


def resumed(run: Path, reference: Path) -> tuple[str, list[str]]:
    """The error, or "" if the run ended; and what then differs from the undamaged run."""
    try:
        growth.grow(RECIPE, run_dir=run, resume=True)
    except EnergysplitError as error:
        return str(error), []
    same = {
        "journal": growth_runs.journal(run) == growth_runs.journal(reference),
        "stages": _read(growth_runs.files(run)) == _read(growth_runs.files(reference)),
        "recipe": saved_recipe(run) == saved_recipe(reference),
    }
    return "", [name for name, equal in same.items() if not equal]


def _read(found: dict[str, bytes]) -> dict[str, object]:
    """Files as they are read: of JSON what it says, for a lost newline at its end is no damage."""
    return {name: json.loads(data) if name.endswith(".json") else data for name, data in found.items()}


def content(folder: Path) -> dict[str, bytes]:
    """What a command wrote, without times."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read(run: Path, out: Path, command: str) -> tuple[int, str, dict[str, bytes]]:
    """Exit code, what was said and what was written by a command that reads a run."""
    words = {
        "report": ["report", str(run)],
        "export": ["export", str(run), "--out", str(out / "model.onnx")],
        "allocate": ["allocate", str(run), "--stage", "0"],
        "compare": ["compare", str(run), "--out", str(out)],
    }[command]
    out.mkdir()
    done = CliRunner().invoke(app, words)
    assert done.exit_code in (0, 2), f"{words}: {done.exception!r}"
    if done.exit_code:
        return done.exit_code, done.stderr, {}
    wrote = content(out)
    if command == "report":
        wrote = {name: (run / name).read_bytes() for name in ("report.md", "report.html")}
    return 0, done.output, wrote


READ = {
    "report": ("recipe.json", "journal.jsonl", "environment.json"),
    "export": ("recipe.json", "stages/2/network.json", "stages/2/weights.safetensors"),
    "allocate": ("recipe.json", "journal.jsonl", "stages/0/network.json", "stages/0/index.safetensors"),
    "compare": ("recipe.json", "journal.jsonl"),
}
"""What each command reads; it is tried on the other files too."""
_TIME = re.compile(r"\b[\d.]+ m?s\b")


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["finished", "interrupted"])
def test_damage_is_found_named_or_made_good(kind, runs, tmp_path, in_full, tell):
    reference, chance = runs["finished"], Random(kind)
    damaged = [
        (name, damage)
        for name in files(runs[kind])
        for damage in damages((runs[kind] / name).read_bytes() or b"\0", name)
    ]
    chance.shuffle(damaged)
    if not in_full:  # one of each kind of file that resumption reads
        damaged = list({Path(name).name: (name, each) for name, each in damaged}.values())
    same, named, believed = 0, 0, []
    for number, (name, damage) in enumerate(damaged):
        run = tmp_path / "run"
        shutil.copytree(runs[kind], run)
        (run / ".lock").unlink(missing_ok=True)
        after = damage.content((run / name).read_bytes())
        (run / name).unlink() if after is None else (run / name).write_bytes(after)
        error, differs = resumed(run, reference)
        same += not error
        named += bool(error)
        if differs or (error and not (str(run) in error and Path(name).name in error)):
            believed.append(f"{kind} {number}: {name} {damage.name}: {error or differs}")
        shutil.rmtree(run)
    tell(f"{len(damaged)} damages: {same} runs ended as if there had been none, {named} named the file")
    assert believed == []
    assert same > 0


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("command", READ)
def test_damage_is_not_believed_by_what_reads_a_run(command, runs, tmp_path, in_full, tell):
    run = tmp_path / "run"
    shutil.copytree(runs["finished"], run)
    damaged = []
    for name in files(run):
        tried = list(damages((run / name).read_bytes() or b"\0", name))
        if not in_full or (name not in READ[command] and command == "export"):  # which takes seconds
            tried = [Random(f"{command} {name}").choice(tried)]
        damaged += [(name, damage) for damage in tried if in_full or name in READ[command]]
    expected = read(run, tmp_path / "expected", command)
    assert expected[0] == 0, expected[1]
    same = named = 0
    for number, (name, damage) in enumerate(damaged):
        label = f"{command} {number}: {name} {damage.name}"
        before = (run / name).read_bytes()
        after = damage.content(before)
        (run / name).unlink() if after is None else (run / name).write_bytes(after)
        out = tmp_path / str(number)
        code, said, wrote = read(run, out, command)
        if code:
            assert str(run) in said, f"{label}: {said}"
            assert said.count("\n") == 1, f"{label}: {said}"
            named += 1
        elif "environment.json" in name and command == "report" and read_environment(run) is None:
            # Its versions and machine are replaced by those of the reader, which the report says.
            assert b"this report was written with" in wrote["report.md"], label
            named += 1
        else:
            told, before_it = (
                _TIME.sub("TIME", text.replace(str(place), "OUT"))
                for text, place in ((said, out), (expected[1], tmp_path / "expected"))
            )
            assert told == before_it, label
            assert wrote == expected[2], label
            same += 1
        (run / name).write_bytes(before)
        shutil.rmtree(out)
    tell(f"{same + named} damages: {same} made no difference, {named} were named")
    assert named > 0
