"""Indices of one fixed network, in one process and shared by several, in float64: only the order of sums differs."""

from __future__ import annotations

import pytest
import splitting_processes
import torch
from launched import launched

from energysplit.splitting.share import Share


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_find_what_one_finds(tmp_path, processes):
    """Values, errors and residuals of every solver, within 1e-9 of the largest; the same bits on every process."""
    ended = launched(["-m", "splitting_processes", str(tmp_path / "found")], processes)
    assert [each.code for each in ended] == [0] * processes, ended
    shared = [torch.load(tmp_path / f"found{rank}") for rank in range(processes)]
    alone = splitting_processes.indices(Share())
    assert {label.split("/")[0] for label in alone} == {*splitting_processes.OPTIONS, "sum"}
    for name, expected in alone.items():
        for rank in range(1, processes):
            assert torch.equal(shared[0][name], shared[rank][name]), name
        scale = float(expected.abs().max())
        torch.testing.assert_close(shared[0][name], expected, rtol=0, atol=1e-9 * max(scale, 1e-3), msg=name)


def test_shares_are_the_whole_batch():
    x, target = torch.arange(7), torch.arange(7) + 10
    for processes in (1, 2, 3, 9):
        parts = [Share(rank, processes).of(x, target) for rank in range(processes)]
        assert sorted(torch.cat([part for part, _ in parts]).tolist()) == x.tolist()
        assert all(torch.equal(part + 10, of_target) for part, of_target in parts)


def test_totals_keep_shapes_and_come_in_one_message():
    messages = []

    def total(tensor):
        messages.append(tensor.shape)
        return tensor * 2

    tensors = [torch.arange(6.0).view(2, 3), torch.tensor(5.0), torch.zeros(0, 4)]
    found = Share(0, 2, total).totals(tensors)
    assert messages == [(7,)]
    assert [each.tolist() for each in found] == [[[0, 2, 4], [6, 8, 10]], 10.0, []]
    assert Share(0, 2, total).totals([]) == []
