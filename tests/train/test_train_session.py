"""Sessions: settings that hold and are put back, devices and precisions, several in one process, several processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import torch
from torch import nn

from energysplit import models
from energysplit.errors import InputError
from energysplit.train import Session, evaluate, make_optimiser, train_epoch


def test_settings_hold_inside_and_are_put_back():
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with Session("cpu", threads=2 if threads == 1 else 1) as session:
        assert session.device == torch.device("cpu")
        assert (session.processes, session.rank, session.is_main) == (1, 0, True)
        assert torch.get_num_threads() != threads
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == threads
    assert torch.are_deterministic_algorithms_enabled() == deterministic


def test_sessions_of_other_precision_follow_each_other():
    x = torch.randn(2, 4)
    for precision, dtype in (("no", torch.float32), ("bf16", torch.bfloat16), ("no", torch.float32)):
        with Session("cpu", precision) as session, session.autocast():
            assert nn.Linear(4, 3)(x).dtype == dtype


def test_training_leaves_nothing_on_the_module():
    module = models.build("cnn", widths=[4])
    keys = set(module.__dict__)
    batch = (torch.randn(4, 3, 8, 8), torch.arange(4))
    for precision in ("no", "bf16"):
        with Session("cpu", precision) as session:
            session.place(module)
            optimiser = make_optimiser(module)
            train_epoch(
                session, module, optimiser, [batch], loss_fn=nn.CrossEntropyLoss(), learning_rate=lambda _: 0.1, seed=0
            )
            assert session._accelerator._optimizers == []
    assert set(module.__dict__) == keys
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())


def test_channels_last_changes_the_format_and_not_the_numbers():
    torch.manual_seed(0)
    module = models.build("cnn", widths=[4, 6]).eval()
    batch = (torch.randn(4, 3, 8, 8), torch.arange(4))
    with Session("cpu") as session:
        plain = evaluate(session, session.place(module), [batch], nn.CrossEntropyLoss())
    with Session("cpu", channels_last=True) as session:
        session.place(module)
        assert module.blocks[1].conv.weight.is_contiguous(memory_format=torch.channels_last)
        assert session.shard(batch)[0].is_contiguous(memory_format=torch.channels_last)
        last = evaluate(session, module, [batch], nn.CrossEntropyLoss())
    with Session("cpu") as session:
        assert session.place(module).blocks[1].conv.weight.is_contiguous()
    assert last.loss == pytest.approx(plain.loss, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "gpu"}, "run.device = 'gpu': 'auto', 'cpu', 'cuda'"),
        ({"device": "cpu:1"}, "run.device = 'cpu:1'"),
        ({"precision": "half"}, "run.precision = 'half': one of no, bf16, fp16"),
        ({"threads": 0}, "run.threads = 0: a number from 1"),
        ({"device": "cpu", "precision": "fp16"}, "'fp16' does not work on run.device = 'cpu'"),
    ],
)
def test_wrong_settings_are_refused(arguments, message):
    threads = torch.get_num_threads()
    with pytest.raises(InputError, match=message):
        Session(**arguments)
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(InputError, match="torch sees no CUDA device; use 'auto' or 'cpu'"):
        Session("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_training_on_cuda_lowers_the_loss(precision):
    torch.manual_seed(0)
    batch = (torch.randn(32, 3, 16, 16), torch.arange(32) % 10)
    with Session("cuda", precision, channels_last=True) as session:
        module = session.place(models.build("cnn", widths=[8, 16]))
        optimiser = make_optimiser(module)
        results = [
            train_epoch(
                session,
                module,
                optimiser,
                [batch] * 10,
                loss_fn=nn.CrossEntropyLoss(),
                learning_rate=lambda _: 0.05,
                seed=i,
            )
            for i in range(3)
        ]
        assert results[-1].loss < 0.7 * results[0].loss
        assert evaluate(session, module, [batch], nn.CrossEntropyLoss()).images == 32


TWO_PROCESSES = """
import os
import sys
import torch
from torch import nn
from energysplit.train import Session, evaluate, make_optimiser, processes, train_epoch

torch.manual_seed(0)
module = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.SiLU(), nn.Linear(8, 3)).double()
generator = torch.Generator().manual_seed(1)
batches = [(torch.randn(n, 3, 2, 2, generator=generator).double(), torch.arange(n) % 3) for n in (8, 8, 5)]
for _ in range(2):  # a second session in the same processes
    session = Session("cpu", threads=1)
session.place(module)
optimiser = make_optimiser(module)
loss = nn.CrossEntropyLoss()
result = train_epoch(session, module, optimiser, batches, loss_fn=loss, learning_rate=lambda step: 0.1, seed=0,
                     accumulate=int(sys.argv[1]))
evaluation = evaluate(session, module, batches + [(batches[0][0][:1], batches[0][1][:1])], loss)
if session.is_main:
    total = sum(p.double().sum().item() for p in module.parameters())
    print(session.processes, repr(total), repr(result.loss), result.images, repr(evaluation.loss), evaluation.images)
    sys.stdout.flush()
if session.processes > 1:
    processes.linger()
os._exit(0)  # as the command line ends: torch's threads of communication now and then abort Python's own end
"""


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_train_as_one(accumulate):
    """Whole batches, uneven ones too, shared by two processes: the same parameters, loss and evaluation."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def start(rank, world):
        many = {"WORLD_SIZE": str(world), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        many |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(many if world > 1 else {})}
        command = [sys.executable, "-c", TWO_PROCESSES, str(accumulate)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    runs = [start(0, 1), start(0, 2), start(1, 2)]
    outputs = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], outputs
    one, two = (list(map(float, out.split())) for out, _ in outputs[:2])
    assert (one[0], two[0]) == (1, 2)
    assert one[3] == two[3] == 21
    assert one[5] == two[5] == 22
    assert two[1:] == pytest.approx(one[1:], rel=1e-12)
