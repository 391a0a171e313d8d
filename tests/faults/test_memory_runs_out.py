"""Memory that runs out: while indexing and evaluating batches are halved and it is said, while training keys are named.

Injected at chosen moments with the errors that torch raises, and for real in a child whose memory is limited.
"""

from __future__ import annotations

import subprocess
import sys
import weakref

import pytest
import torch
import torch.nn.functional as F
from growth_runs import files, journal, tiny
from launched import environment, launched
from torch import nn

import energysplit as es
from energysplit import growth, models
from energysplit.errors import OutOfMemory, SmallerBatches
from energysplit.growth import evaluation, stage
from energysplit.output.atomic import write_text
from energysplit.output.tensors import load_tensors, save_tensors
from energysplit.splitting import operator

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("could not create a primitive"),
    MemoryError(),
]
METHODS = {"lobpcg": {"sweeps": 3}, "rmsprop": {"sweeps": 2}, "exact": {}, "random": {}, "fresh": {}}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.SiLU(), nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(16, 3)
    ).double()
    return es.trace(module, torch.zeros(2, 1, 6, 6, dtype=torch.float64))


def batches(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(n, 1, 6, 6, generator=generator).double(), torch.arange(n) % 3) for n in sizes]


def scarce(images, error=ERRORS[0]):
    """A loss that finds no memory for batches of more images."""

    def loss(output, target):
        if len(output) > images:
            raise error
        return F.cross_entropy(output, target)

    return loss


def same(found, expected, rtol):
    for name, index in expected.items():
        for part in ("value", "stderr", "residual"):
            one, other = getattr(found[name], part), getattr(index, part)
            torch.testing.assert_close(one, other, rtol=rtol, atol=rtol, equal_nan=True)


@pytest.mark.parametrize("method", METHODS)
def test_indices_are_those_of_smaller_batches_from_the_start(net, method, in_full):
    """The same bits as batches of 8 to begin with; with running statistics those of 32 too, to rounding."""
    for statistics in ("running", "batch") if in_full or method == "lobpcg" else ("running",):
        options = {"method": method, "statistics": statistics, **METHODS[method]}
        halved = []
        found = es.splitting_index(
            net,
            batches(32, 32),
            scarce(8),
            held_out=batches(32, seed=1),
            halved=lambda *said, halved=halved: halved.append(said),
            **options,
        )
        small = [batches(32, 32), batches(32, seed=1)]
        small = [[pair for x, y in one for pair in zip(x.split(8), y.split(8), strict=True)] for one in small]
        same(found, es.splitting_index(net, small[0], F.cross_entropy, held_out=small[1], **options), 0)
        assert [size for size, _ in halved] == [16, 8]
        assert "out of memory" in halved[0][1]
        if statistics == "running" and method != "rmsprop":  # whose steps are batches
            whole = es.splitting_index(net, batches(32, 32), F.cross_entropy, held_out=batches(32, seed=1), **options)
            same(found, whole, 1e-9)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_torch_raises_is_known(net, error):
    with pytest.warns(SmallerBatches, match="memory ran out .* begun anew with batches of 4"):
        es.splitting_index(net, batches(8), scarce(4, error), sweeps=1)
    with pytest.raises(RuntimeError, match="not of memory"):
        es.splitting_index(net, batches(8), scarce(4, RuntimeError("not of memory")), sweeps=1)


def test_kept_captures_are_let_go_before_batches_are_halved(net):
    """Failing once when something is kept, at any batch but the first, leaves indices as they are, bit for bit."""
    expected = es.splitting_index(net, batches(8, 8, 8), F.cross_entropy, sweeps=2)
    for fatal in (2, 3):
        calls = 0

        def once(output, target, fatal=fatal):
            nonlocal calls
            calls += 1
            if calls == fatal:
                raise ERRORS[1]
            return F.cross_entropy(output, target)

        halved = []
        found = es.splitting_index(net, batches(8, 8, 8), once, sweeps=2, halved=lambda *said: halved.append(said))  # noqa: B023
        same(found, expected, 0)
        assert halved == []
        assert calls > 3 + fatal, "the sweep was made anew"


def test_nothing_of_a_failed_attempt_is_held(net):
    held: list[weakref.ref] = []

    def loss(output, target):
        if len(output) > 8:
            held.append(weakref.ref(output))
            raise torch.OutOfMemoryError("CUDA out of memory.")  # anew: an error that is kept keeps its frames
        assert all(ref() is None for ref in held)
        return F.cross_entropy(output, target)

    es.splitting_index(net, batches(16), loss, sweeps=1, halved=lambda *_: None)
    assert held


@pytest.mark.parametrize(("statistics", "least"), [("running", 1), ("batch", 2)])
def test_the_smallest_batches_that_do_not_fit_are_an_error(net, statistics, least):
    sizes = []
    with pytest.raises(OutOfMemory, match=rf"while indexing \(index.batch_size\), in batches of {least} too"):
        es.splitting_index(net, batches(9), scarce(0), statistics=statistics, halved=lambda size, _: sizes.append(size))
    assert sizes == ([4, 2, 1] if least == 1 else [4, 2])


def test_no_batch_gets_too_few_images_for_statistics(net):
    """Five images in batches of at most two would be 2, 2 and 1, which has no statistics."""
    sizes = []
    options = {"statistics": "batch", "sweeps": 1}
    found = es.splitting_index(net, batches(5), scarce(3), halved=lambda size, _: sizes.append(size), **options)
    (pair,) = batches(5)
    small = [(part[0], part[1]) for part in zip(pair[0].split([3, 2]), pair[1].split([3, 2]), strict=True)]
    same(found, es.splitting_index(net, small, F.cross_entropy, **options), 0)
    assert sizes == [2]


def test_a_descent_is_repeated_only_with_smaller_minibatches(net):
    """Its minibatches have 64 images, however large the held-out batches are."""
    sizes = []
    es.splitting_index(
        net,
        batches(128),
        scarce(32),
        method="rmsprop",
        sweeps=1,
        held_out=batches(256, seed=1),
        halved=lambda size, _: sizes.append(size),
    )
    assert sizes == [32]


# In a thread, whose stack is there from the start: where the limit is reached while the first one's grows, the kernel
# ends the process.
LIMITED = """
import faulthandler, resource, threading, torch, energysplit as es
from energysplit import models
faulthandler.enable()
torch.manual_seed(0)
net = es.trace(models.build("cnn", widths=[16, 16], in_channels=3, activation="silu"), torch.zeros(2, 3, 32, 32))
x, y = torch.randn(256, 3, 32, 32), torch.arange(256) % 10
loss = torch.nn.functional.cross_entropy

def index():
    es.splitting_index(net, [(x[:4], y[:4])], loss, sweeps=1)
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 30 * 2**20, resource.RLIM_INFINITY))
    said = []
    found = es.splitting_index(net, [(x, y)], loss, sweeps=2, halved=lambda *each: said.append(each))
    print(said[0][0], all(index.value.isfinite().all() for index in found.values()))

threading.stack_size(16 * 2**20)
thread = threading.Thread(target=index)
thread.start()
thread.join()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit of address space")
def test_a_process_with_little_memory_halves_its_batches():
    one_heap = {**environment(), "MALLOC_ARENA_MAX": "1"}  # else a thread reserves addresses for its own
    child = subprocess.run([sys.executable, "-c", LIMITED], env=one_heap, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == ["128", "True"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_with_little_memory_halves_its_batches():
    module = models.build("cnn", widths=[16, 16], in_channels=3, activation="silu").cuda()
    network = es.trace(module, torch.zeros(2, 3, 32, 32, device="cuda"))
    x, y = torch.randn(2048, 3, 32, 32), torch.arange(2048) % 10
    total = torch.cuda.get_device_properties(0).total_memory
    sizes = []
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 200 * 2**20) / total)
    try:
        found = es.splitting_index(
            network, [(x, y)], F.cross_entropy, sweeps=2, halved=lambda size, _: sizes.append(size)
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert sizes
    assert all(bool(index.value.isfinite().all()) for index in found.values())


TWO = """
import sys, torch, energysplit as es
import torch.nn.functional as F
from energysplit import models
from energysplit.errors import OutOfMemory
from energysplit.splitting.share import Share
from energysplit.train import Session
from launched import end
session = Session("cpu", threads=1)
torch.manual_seed(0)
module = models.build("cnn", widths=[3, 4], in_channels=1, activation="silu").double()
net = es.trace(module, torch.zeros(2, 1, 8, 8, dtype=torch.float64))
x, y = torch.randn(32, 1, 8, 8).double(), torch.arange(32) % 10
share = Share(session.rank, session.processes, session.sum, session.team.everyone)
def loss(output, target, most):
    if (session.rank == 1 or most == 0) and len(output) > most:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    return F.cross_entropy(output, target)
for method in ("lobpcg", "rmsprop"):
    said = []
    found = es.splitting_index(net, [(x, y)], lambda o, t: loss(o, t, 4), method=method, sweeps=2, held_out=[(x, y)],
                               share=share, halved=lambda size, _: said.append(size))
    print(method, said, [index.value.tolist() for index in found.values()])
from energysplit.splitting import exact
really, failing, said = exact.eigenvectors, [session.rank == 1], []
def once(matrices):
    if failing.pop() if failing else False:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    return really(matrices)
exact.eigenvectors = once
found = es.splitting_index(net, [(x, y)], F.cross_entropy, method="exact", share=share,
                           halved=lambda size, _: said.append(size))
print("exact", said, [index.value.tolist() for index in found.values()])
try:
    es.splitting_index(net, [(x, y)], lambda o, t: loss(o, t, 0), sweeps=1, share=share, halved=lambda *_: None)
except OutOfMemory as error:
    print("stopped", "while indexing" in str(error))
end()
"""


def test_all_processes_halve_alike():
    """Process 1 alone has too little memory; neither waits for ever, and both find the same."""
    main, second = launched(["-c", TWO], 2)
    assert (main.code, second.code) == (0, 0), (main.err, second.err)
    assert main.out == second.out
    assert "lobpcg [16, 8]" in main.out
    assert "rmsprop [16, 8]" in main.out
    assert "exact [16]" in main.out
    assert "stopped True" in main.out


class Lines(growth.loop.SilentProgress):
    def __init__(self):
        self.said = []

    def line(self, text):
        self.said.append(text)


@pytest.fixture
def quick(monkeypatch):
    """Growths without their figures."""
    monkeypatch.setattr(growth.loop, "write_report", lambda path, *_: write_text(path / "report.html", "left out"))


def test_a_growth_goes_on_with_smaller_index_batches_and_says_so(tmp_path, quick, monkeypatch):
    """Its journal and network are those of a recipe with the smaller batches, but for what is said of it."""
    growth.grow(tiny(growth={"stages": 1}, index={"batch_size": 32}), run_dir=tmp_path / "small")
    capture = operator.capture

    def little(net, x, *args, **kwargs):
        if len(x) > 32:
            raise ERRORS[0]
        return capture(net, x, *args, **kwargs)

    monkeypatch.setattr(operator, "capture", little)
    lines = Lines()
    growth.grow(tiny(growth={"stages": 1}), run_dir=tmp_path / "run", progress=lines)
    (first, last), small = journal(tmp_path / "run"), journal(tmp_path / "small")
    assert [len(note) > 0 for note in first.pop("notes")] == [True, True]
    assert "notes" not in last
    assert [first, last] == small
    assert first["growth"]["index"]["batch_size"] == 32
    assert files(tmp_path / "run") == files(tmp_path / "small")
    for size in (64, 32):
        expected = (
            "stage 0: memory ran out while indexing (CUDA out of memory. Tried to allocate 2.00 GiB.); begun anew"
        )
        assert any(line.startswith(expected) and f"batches of {size} images" in line for line in lines.said)


def test_evaluation_makes_its_batches_smaller(tmp_path, quick, monkeypatch):
    real = evaluation.evaluate
    recipe = tiny(growth={"stages": 0}, train={"epochs": 1})
    (expected,) = growth.grow(recipe, run_dir=tmp_path / "whole").records

    def little(session, module, images, loss):
        images = list(images)
        if len(images[0][0]) > 130:
            raise ERRORS[0]
        return real(session, module, images, loss)

    monkeypatch.setattr(evaluation, "evaluate", little)
    (record,) = growth.grow(recipe, run_dir=tmp_path / "run").records
    assert record.validation.accuracy == expected.validation.accuracy
    assert record.test.loss == pytest.approx(expected.test.loss, rel=1e-6)
    assert [note.partition(" (")[0] for note in record.notes][:1] == [
        "memory ran out while evaluating validation images"
    ]
    assert "batches of 125" in record.notes[-1]


class Killed(BaseException):
    """What no handler of the growth catches."""


@pytest.mark.parametrize("old", [False, True], ids=["now", "progress of before notes were kept"])
def test_smaller_batches_of_evaluation_are_found_and_noted_once_a_stage(tmp_path, quick, monkeypatch, old):
    """Not in each epoch, whose messages differ; and a stage that is resumed ends with the same notes."""
    real, save, calls = evaluation.evaluate, growth.folder.RunFolder.save_progress, 0
    recipe = tiny(growth={"stages": 0}, train={"epochs": 3, "patience": 3})

    def little(session, module, images, loss):
        nonlocal calls
        images = list(images)
        if len(images[0][0]) > 130:
            calls += 1
            raise RuntimeError(f"CUDA out of memory. {calls} MiB is free")
        return real(session, module, images, loss)

    def save_and_die(self, state):
        save(self, state)
        raise Killed

    monkeypatch.setattr(evaluation, "evaluate", little)
    (whole,) = growth.grow(recipe, run_dir=tmp_path / "whole").records
    assert (calls, len(whole.notes)) == (2, 2)
    calls = 0
    with monkeypatch.context() as patch:
        patch.setattr(growth.folder.RunFolder, "save_progress", save_and_die)
        with pytest.raises(Killed):
            growth.grow(recipe, run_dir=tmp_path / "run")
    if old:
        file, calls = tmp_path / "run" / "progress" / "optimiser.safetensors", 0
        tensors, facts = load_tensors(file)
        del facts["notes"], facts["evaluation_batch"]
        save_tensors(file, tensors, facts)
    growth.grow(recipe, run_dir=tmp_path / "run", resume=True)
    assert journal(tmp_path / "run") == journal(tmp_path / "whole")


def test_training_without_memory_names_the_keys_and_can_go_on(tmp_path, quick, monkeypatch):
    real = stage.train_epoch
    recipe = tiny(growth={"stages": 1})
    growth.grow(recipe, run_dir=tmp_path / "whole")

    def little(*args, **kwargs):
        if kwargs["epoch"] == 1 and (tmp_path / "run" / "journal.jsonl").exists():
            raise ERRORS[0]
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "train_epoch", little)
        with pytest.raises(
            OutOfMemory, match=r"stage 1: .* in epoch 2 .* lower train.batch_size, 128 now, and raise train.accumulate"
        ):
            growth.grow(recipe, run_dir=tmp_path / "run")
    assert len(journal(tmp_path / "run")) == 1
    growth.grow(recipe, run_dir=tmp_path / "run", resume=True)
    assert journal(tmp_path / "run") == journal(tmp_path / "whole")
    assert files(tmp_path / "run") == files(tmp_path / "whole")
