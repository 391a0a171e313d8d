"""What processes tell each other, and batch norm's statistics over them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from launched import launched
from torch import nn

from energysplit.errors import InputError, ProcessLost
from energysplit.train import processes
from energysplit.train.average import Average
from energysplit.train.processes import Processes, watched

TALK = """
import torch
from launched import end
from energysplit.errors import DataError, EnergysplitError
from energysplit.train import Session
from energysplit.train.processes import first_to_say, relayed

session = Session("cpu", threads=1)
team, rank = session.team, session.rank

def fails(error):
    raise error

def tried(what, work):
    try:
        said = work()
    except EnergysplitError as error:
        said = f"{type(error).__name__} {error} {relayed(error)}"
    except OSError as error:
        said = f"OSError {error.strerror}"
    print(what, said, flush=True)

tried("decision", lambda: team.on_main(lambda: {"decided by": rank}))
tried("main", lambda: team.on_main(lambda: fails(DataError("no data"))))
tried("disk", lambda: team.on_main(lambda: fails(OSError(28, "disk full"))))
tried("other", lambda: team.everyone(lambda: fails(DataError("no data")) if rank == 1 else "fine"))
tried("all", lambda: team.everyone(lambda: rank))
tried("turn", lambda: team.in_turn(lambda: rank, first=session.is_main))
tried("differing", lambda: team.differing({"width": 4 + rank // 2}))
tried("said", lambda: team.differing(first_to_say("once")) != {})
tried("sum", lambda: session.sum(torch.tensor([rank + 1.0])).tolist())
end()
"""


def test_what_one_knows_all_know():
    ended = launched(["-c", TALK], 3)
    assert [each.code for each in ended] == [0, 0, 0], ended
    main, second, third = (dict(line.split(" ", 1) for line in each.out.splitlines()) for each in ended)
    assert main["decision"] == second["decision"] == third["decision"] == "{'decided by': 0}"
    assert main["main"] == "DataError no data False"
    assert second["main"] == third["main"] == "DataError no data True"
    assert main["disk"] == "OSError disk full"
    assert second["disk"] == third["disk"] == "ProcessLost process 0 failed: OSError: [Errno 28] disk full True"
    assert second["other"] == "DataError no data False"
    assert main["other"] == third["other"] == "DataError no data True"
    for what in ("all", "turn"):
        assert [each[what] for each in (main, second, third)] == ["0", "1", "2"]
    assert main["differing"] == second["differing"] == "{2: {'width': 5}}"
    assert main["said"] == "True"
    assert {each["sum"] for each in (main, second, third)} == {"[6.0]"}


STATISTICS = """
import sys, torch
from launched import end
from torch import nn
from energysplit.train import Session, make_optimiser, train_epoch
from energysplit.train.average import Average
from energysplit.train.statistics import same_statistics

torch.manual_seed(0)
module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 3)).double()
module.register_buffer("constant", torch.tensor(0.1, dtype=torch.float64))
generator = torch.Generator().manual_seed(1)
batches = [(5 * torch.randn(n, 1, 4, 4, generator=generator).double(), torch.arange(n) % 3) for n in (16, 16, 8)]
session = Session("cpu", threads=1)
session.place(module)
average = Average(module, 0.5)
# The weights stay, so that only the statistics differ.
train_epoch(session, module, make_optimiser(module), batches, loss_fn=nn.CrossEntropyLoss(),
            learning_rate=lambda _: 0.0, seed=0, after_update=average.update)
same_statistics(session, module, average.buffers())
found = {name: tensor.clone() for name, tensor in module.state_dict().items()}
found |= {f"average.{name}": tensor for name, tensor in average.tensors().items()}
torch.save(found, sys.argv[1] + f"{session.processes}.{session.rank}")
end()
"""


def test_running_statistics_are_those_of_all_images(tmp_path):
    """The running mean is that of one process to rounding; the variance an average over halves; all the same bits."""
    for count in (1, 2):
        ended = launched(["-c", STATISTICS, str(tmp_path / "found")], count)
        assert [each.code for each in ended] == [0] * count, ended
    one, main, second = (torch.load(tmp_path / f"found{which}") for which in ("1.0", "2.0", "2.1"))
    for name in main:
        assert torch.equal(main[name], second[name]), name
    for name in ("1.running_mean", "average.1.running_mean"):
        torch.testing.assert_close(main[name], one[name], rtol=1e-12, atol=1e-12)
    for name in ("1.running_var", "average.1.running_var"):
        assert not torch.equal(main[name], one[name])
        torch.testing.assert_close(main[name], one[name], rtol=0.1, atol=0)
    assert int(main["1.num_batches_tracked"]) == 3
    assert float(main["constant"]) == 0.1


def test_one_process_needs_nobody():
    team = Processes()
    assert team.broadcast("value") == "value"
    assert team.on_main(lambda: 3) == team.everyone(lambda: 3) == team.in_turn(lambda: 3, first=False) == 3
    assert team.differing("anything") == {}
    with pytest.raises(ZeroDivisionError):
        team.on_main(lambda: 1 // 0)


def test_averages_of_buffers_are_the_average_itself():
    module = nn.BatchNorm1d(2)
    average = Average(module, 0.9)
    assert average.buffers().keys() == {"running_mean", "running_var"}
    average.buffers()["running_mean"].fill_(7.0)
    assert average.tensors()["running_mean"].tolist() == [7.0, 7.0]


def test_only_a_lost_process_is_called_so(monkeypatch):
    lost = "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:26031"
    with pytest.raises(RuntimeError, match="pair.cc"), watched(Path("run")):
        raise RuntimeError(lost)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(processes.TIMEOUT_VARIABLE, "90")
    with pytest.raises(ProcessLost, match="did not answer for 90 s .* is in run; start all"), watched(Path("run")):
        raise RuntimeError(lost)
    with pytest.raises(RuntimeError, match="shape"), watched(Path("run")):
        raise RuntimeError("shape '[2]' is invalid")


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan", ""])
def test_a_timeout_is_a_number_of_seconds(monkeypatch, text):
    monkeypatch.setenv(processes.TIMEOUT_VARIABLE, text)
    with pytest.raises(InputError, match="ENERGYSPLIT_TIMEOUT_S = .*: a number of seconds above 0"):
        processes.timeout()
