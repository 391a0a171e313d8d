"""A disk that refuses files during a growth: one message with path and remedy; --resume ends as if it had not."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import faulty_runs
import growth_runs
import pytest

from energysplit import growth
from energysplit.errors import InputError, RunError
from energysplit.experiment.recipe_file import write_recipe
from energysplit.output.atomic import write_text

SAYS = {
    errno.ENOSPC: "No space left on device; free some space there",
    errno.EROFS: "Read-only file system; make it readable and writable",
    errno.EACCES: "Permission denied; make it readable and writable",
    errno.EIO: "Input/output error; check the disk",
    errno.EFBIG: "File too large; raise the limit on the size of files (ulimit -f)",
}


def assert_refused(code: int, said: str, folder: Path, number: int) -> None:
    """Exit code 2 and one line that names the file, what the disk said, and how to go on or where else to go."""
    assert code == 2, said
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if "error:" in line]
    assert str(folder) in line
    assert os.strerror(number) in line
    assert (f"{SAYS[number]}, then go on with --resume" in line) or "with --run" in line


def assert_same(folder: Path, reference: Path) -> None:
    assert growth_runs.journal(folder) == growth_runs.journal(reference)
    assert growth_runs.files(folder) == growth_runs.files(reference)


@pytest.mark.timeout(7200)
def test_every_file_operation_refused(in_full, processes, run_command, tiny, tmp_path, tell):
    """The n-th of a run is refused, for every n; what was finished before is there, and --resume does the rest."""
    recipe, reference = tiny
    arguments = ["grow", str(recipe), "--quiet", "--resume", "--run"]
    folder = tmp_path / "counted"
    child = faulty_runs.Child(processes, faulty_runs.refuse_at, str(folder), 0, 0, [*arguments, str(folder)])
    count = int(child.end()[1].split()[-2])
    assert count > 100
    passed = []
    for operation in range(1, count + 1) if in_full else (count // 2, count - 3):
        folder, number = tmp_path / f"run {operation}", faulty_runs.REFUSALS[operation % len(faulty_runs.REFUSALS)]
        given = (str(folder), operation, number, [*arguments, str(folder)])
        code, said = faulty_runs.Child(processes, faulty_runs.refuse_at, *given).end()
        if code == 0:
            passed.append(operation)
        else:
            assert_refused(code, said, folder, number)
            stages = growth_runs.journal(folder) if (folder / "journal.jsonl").exists() else []
            assert stages == growth_runs.journal(reference)[: len(stages)]
            code, said = run_command(*arguments, folder)
            assert code == 0, said
        assert_same(folder, reference)
        shutil.rmtree(folder)
    tell(f"{count} file operations, refused one by one; not needed: {passed}")
    assert len(passed) < 0.1 * count, "hardly any is of no account"


@pytest.fixture(scope="module")
def everything(in_full, tiny, tmp_path_factory, run_command):
    """A run with an ONNX model, curves and figures, and its recipe; the tiny one, where a sample is enough."""
    if not in_full:
        return tiny
    folder = tmp_path_factory.mktemp("everything")
    wanted = growth_runs.tiny(
        train={"epochs": 1}, growth={"stages": 1}, export={"onnx": True}, run={"tensorboard": True}
    )
    recipe = write_recipe(folder / "recipe.toml", wanted)
    code, said = run_command("grow", recipe, "--run", folder / "run")
    assert code == 0, said
    return recipe, folder / "run"


def limited(largest: int, arguments: list[str]) -> None:
    """The command, with a limit on the size of files, in bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    faulty_runs.command(arguments, figures=True)


@pytest.mark.timeout(7200)
def test_files_too_large_for_a_limit(in_full, processes, run_command, everything, tmp_path, tell):
    """The kernel's own refusal, of the writes of libraries too. Every limit lets a run come a little further."""
    recipe, reference = everything
    largest = max(path.stat().st_size for path in reference.rglob("*") if path.is_file())
    folder, sizes = tmp_path / "run", {path.stat().st_size for path in reference.rglob("*") if path.is_file()}
    limits = sorted({size - 1 for size in sizes if size > 1}) if in_full else [100, largest // 2]
    refused = 0
    for limit in limits:
        arguments = ["grow", str(recipe), "--run", str(folder), "--resume", "--quiet"]
        code, said = faulty_runs.Child(processes, limited, limit, arguments).end()
        if code:
            assert_refused(code, said, folder, errno.EFBIG)
            refused += 1
    tell(f"{len(limits)} limits, {refused} of them refused a file")
    assert refused >= 2
    code, said = run_command("grow", recipe, "--run", folder, "--resume")
    assert code == 0, said
    assert_same(folder, reference)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip() or done.returncode}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path, left: int) -> Path:
    """A file that leaves so many bytes of a disk free, about."""
    found = os.statvfs(place)
    file = place / "filler"
    file.write_bytes(bytes(max(0, found.f_bavail * found.f_frsize - left)))
    return file


@pytest.mark.timeout(7200)
def test_a_disk_that_is_really_full(in_full, processes, run_command, everything, tmp_path, small_disk, tell):
    recipe, reference = everything
    folder, refused = small_disk / "run", 0
    for left in range(0, 512 * 1024, 16 * 1024) if in_full else (24 * 1024,):
        file = fill(small_disk, left)
        # As a user would: the same command again, whose files of before are there still.
        given = (["grow", str(recipe), "--run", str(folder), "--resume", "--quiet"], True)
        code, said = faulty_runs.Child(processes, faulty_runs.command, *given).end()
        file.unlink()
        if code:
            assert_refused(code, said, folder, errno.ENOSPC)
            refused += 1
        else:
            assert_same(folder, reference)
        if code == 0 or left % (64 * 1024):
            shutil.rmtree(folder)  # the next one begins anew
    tell(f"{refused} times full")
    assert refused >= 1
    code, said = run_command("grow", recipe, "--run", folder, "--resume")
    assert code == 0, said
    assert_same(folder, reference)


def grow_disturbed(monkeypatch, folder: Path, at: str, disturb) -> str:
    """What a growth says whose folder is disturbed before the n-th call of a method of it, from 0."""
    name, place = at.split()
    real, calls = getattr(growth.folder.RunFolder, name), []

    def wrapped(*args):
        if len(calls) == int(place):
            disturb()
        calls.append(1)
        return real(*args)

    monkeypatch.setattr(growth.loop, "write_report", lambda path, *_: write_text(path / "report.html", "left out"))
    monkeypatch.setattr(growth.folder.RunFolder, name, wrapped)
    run = growth_runs.tiny(train={"epochs": 1}, growth={"stages": 1}, run={"tensorboard": True})
    with pytest.raises(RunError) as caught:
        growth.grow(run, run_dir=folder)
    monkeypatch.undo()
    return str(caught.value)


@pytest.mark.parametrize("call", range(5))
def test_a_folder_removed_during_the_run_is_not_made_again(in_full, tmp_path, monkeypatch, call):
    """Before each of its writes: an epoch and a stage, twice, and what comes at the end."""
    if not in_full and call != 2:
        pytest.skip("one of five moments, in full with --faults")
    folder = tmp_path / "run"
    said = grow_disturbed(monkeypatch, folder, f"check_place {call}", lambda: shutil.rmtree(folder))
    assert said.startswith(
        f"{folder} was removed, moved or replaced while this run wrote to it; nothing more was written"
    )
    assert not folder.exists()


def test_another_run_in_place_of_the_folder_is_left_alone(tmp_path, monkeypatch):
    folder, other = tmp_path / "run", tmp_path / "other"
    growth.grow(growth_runs.tiny(growth={"stages": 0}, train={"epochs": 1}), run_dir=other)
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}

    def replace() -> None:
        folder.rename(tmp_path / "moved")
        other.rename(folder)

    assert "was removed, moved or replaced" in grow_disturbed(monkeypatch, folder, "check_place 1", replace)
    folder.rename(other)
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before
    (tmp_path / "moved").rename(folder)
    monkeypatch.setattr(growth.loop, "write_report", lambda path, *_: write_text(path / "report.html", "left out"))
    run = growth_runs.tiny(train={"epochs": 1}, growth={"stages": 1}, run={"tensorboard": True})
    assert len(growth.grow(run, run_dir=folder, resume=True).records) == 2


@pytest.mark.parametrize("file", ["stages/0/network.json", "progress/network.json", "journal.jsonl"])
def test_a_file_that_cant_be_read_is_not_taken_for_damaged(tiny, tmp_path, monkeypatch, file):
    """To make it again would throw finished stages away."""
    recipe, reference = tiny
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    if file.startswith("progress"):  # of stage 1, whose line was never written
        (folder / "journal.jsonl").write_text((folder / "journal.jsonl").read_text().splitlines(keepends=True)[0])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    really = os.open

    def refused(path: str | Path, flags: int, *mode: int, **options: int | None) -> int:
        if Path(path) == folder / file and not flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really(path, flags, *mode, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        with pytest.raises(InputError, match=rf"{file}: Permission denied; .*, then go on with --resume"):
            growth.grow(recipe, run_dir=folder, resume=True)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert {path: data for path, data in after.items() if "stages/1" not in str(path)} == {
        path: data for path, data in before.items() if "stages/1" not in str(path)
    }


def test_a_second_run_in_the_same_folder_is_refused(processes, run_command, tiny, tmp_path):
    recipe, reference = tiny
    folder = tmp_path / "run"
    arguments = ["grow", str(recipe), "--run", str(folder)]
    child = faulty_runs.Child(processes, faulty_runs.command, arguments)
    while not (folder / "recipe.json").exists():
        time.sleep(0.002)
    os.kill(child.process.pid, signal.SIGSTOP)
    try:
        code, said = run_command(*arguments, "--resume")
    finally:
        os.kill(child.process.pid, signal.SIGCONT)
    assert (code, said) == (
        2,
        f"error: {folder} is in use by another run; wait for it, or choose another run folder with --run\n",
    )
    assert child.end()[0] == 0
    assert_same(folder, reference)
