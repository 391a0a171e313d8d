"""A growth killed at any moment and resumed ends like an undisturbed one, bit for bit."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time

import growth_runs
import pytest

from energysplit import growth


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    # What a growth imports late: a child that starts with it takes a quarter of the time. Missing ones are passed over.
    late = ["torch.export", "torch._dynamo", "torch._inductor.config", "torch.onnx._internal.exporter._core"]
    late += ["torch.distributed.tensor", "onnxscript", "onnxruntime"]
    context.set_forkserver_preload(["growth_runs", "sklearn.datasets", "cvxpy", "highspy", *late])
    return context


@pytest.fixture(scope="module")
def undisturbed(processes, tmp_path_factory):
    """A run that nobody disturbs, and the seconds a warm process takes for one."""
    folders = [tmp_path_factory.mktemp("undisturbed") / "run" for _ in range(2)]
    for folder in folders:
        start = time.perf_counter()
        child = processes.Process(target=growth_runs.grow_in_child, args=(str(folder),))
        child.start()
        child.join()
        assert child.exitcode == 0
    return folders[1], time.perf_counter() - start


def assert_same(folder, reference):
    assert growth_runs.journal(folder) == growth_runs.journal(reference)
    assert growth_runs.files(folder) == growth_runs.files(reference)
    assert (folder / "report.html").exists()
    leftovers = [p.name for p in folder.rglob(".*") if p.name != ".lock" and not p.name.endswith(".partial")]
    assert leftovers == []


def test_kill_9_at_random_moments(processes, undisturbed, tmp_path):
    reference, seconds = undisturbed
    chance = random.Random(0)
    folder, kills = tmp_path / "run", 0
    for _ in range(60):
        child = processes.Process(target=growth_runs.grow_in_child, args=(str(folder),))
        child.start()
        # Moments before the end of an undisturbed run; after a dozen kills also later ones, so that it can end.
        child.join(chance.uniform(0.02, 1.5 * seconds if kills >= 12 else 0.5 * seconds))
        if child.exitcode is None:
            child.kill()
            child.join()
            kills += 1
        else:
            break
    assert child.exitcode == 0, "the run did not end"
    assert kills >= 3
    assert_same(folder, reference)


@pytest.mark.parametrize("first", range(3))
def test_death_at_every_few_file_operations(processes, undisturbed, tmp_path, first):
    """Each attempt dies at a file operation a little later than the one before."""
    reference, _ = undisturbed
    folder = tmp_path / "run"
    chance = random.Random(first)
    deaths = 0
    for _ in range(40):
        child = processes.Process(target=growth_runs.grow_and_die_at, args=(str(folder), chance.randint(1, 70)))
        child.start()
        child.join()
        if child.exitcode == 0:
            break
        assert child.exitcode == 137
        deaths += 1
    assert child.exitcode == 0
    assert deaths >= 1
    assert_same(folder, reference)


def test_a_baseline_dies_at_every_few_file_operations(processes, undisturbed, tmp_path):
    """The same for a run whose next network is not split; its sizes are those of the undisturbed growth."""
    baseline = {"baseline": {"kind": "morphnet", "sizes_of": str(undisturbed[0])}}
    whole, folder = tmp_path / "whole", tmp_path / "run"
    child = processes.Process(target=growth_runs.grow_in_child, args=(str(whole),), kwargs=baseline)
    child.start()
    child.join()
    assert child.exitcode == 0
    chance = random.Random(0)
    deaths = 0
    for _ in range(40):
        place = (str(folder), chance.randint(1, 70))
        child = processes.Process(target=growth_runs.grow_and_die_at, args=place, kwargs=baseline)
        child.start()
        child.join()
        if child.exitcode == 0:
            break
        assert child.exitcode == 137
        deaths += 1
    assert child.exitcode == 0
    assert deaths >= 1
    assert_same(folder, whole)


@pytest.mark.parametrize("operation", range(1, 9))
def test_death_while_the_folder_is_made(processes, undisturbed, tmp_path, operation):
    """The first file operations: folder, recipe, environment, first progress."""
    folder = tmp_path / "run"
    child = processes.Process(target=growth_runs.grow_and_die_at, args=(str(folder), operation))
    child.start()
    child.join()
    assert child.exitcode == 137
    child = processes.Process(target=growth_runs.grow_in_child, args=(str(folder),))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert_same(folder, undisturbed[0])


def test_a_second_run_in_the_same_folder_is_refused(processes, undisturbed, tmp_path):
    folder = tmp_path / "run"
    child = processes.Process(target=growth_runs.grow_in_child, args=(str(folder),))
    child.start()
    while not (folder / "recipe.json").exists():
        time.sleep(0.01)
    child_stopped = False
    try:
        import os

        os.kill(child.pid, signal.SIGSTOP)
        child_stopped = True
        with pytest.raises(ValueError, match="in use by another run"):
            growth.grow(growth_runs.tiny(), run_dir=folder, resume=True)
    finally:
        if child_stopped:
            os.kill(child.pid, signal.SIGCONT)
        child.join()
    assert child.exitcode == 0
    assert_same(folder, undisturbed[0])
