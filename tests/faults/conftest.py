"""Processes that start warm, and a tiny growth that nobody disturbs."""

from __future__ import annotations

import multiprocessing

import faulty_runs
import growth_runs
import pytest

from energysplit.experiment.recipe_file import write_recipe


@pytest.fixture(scope="session")
def processes():
    context = multiprocessing.get_context("forkserver")
    # What a growth imports late: a child that starts with it takes a quarter of the time. Missing ones are passed over.
    late = ["torch.export", "torch._dynamo", "torch._inductor.config", "torch.onnx._internal.exporter._core"]
    late += ["torch.distributed.tensor", "onnxscript", "onnxruntime"]
    context.set_forkserver_preload(["faulty_runs", "growth_runs", "sklearn.datasets", "cvxpy", "highspy", *late])
    return context


@pytest.fixture(scope="session")
def run_command(processes):
    """Exit code and output of a command in a warm process."""
    return lambda *arguments: faulty_runs.Child(processes, faulty_runs.command, [*map(str, arguments)]).end()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, run_command):
    """A recipe of one growth, and the folder of a run of it that nobody disturbed."""
    folder = tmp_path_factory.mktemp("tiny")
    recipe = write_recipe(folder / "tiny.toml", growth_runs.tiny(train={"epochs": 1}, growth={"stages": 1}))
    code, said = run_command("grow", recipe, "--run", folder / "run")
    assert code == 0, said
    return recipe, folder / "run"
