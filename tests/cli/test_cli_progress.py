"""Progress in a log and on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from energysplit.cli import progress as module
from energysplit.cli.progress import PlainProgress, TerminalProgress, progress
from energysplit.progress import SilentProgress


def _work(shown, fail: bool = False) -> None:
    shown.stage(1, 3, "36 channels")
    with shown.task("train stage 1", 3) as task:
        for epoch in range(3):
            task.advance(1, loss=1.0 / (epoch + 1), accuracy=0.25 * epoch)
        if fail:
            raise RuntimeError("broken")
    shown.line("a [line] that stays")


def test_a_log_gets_plain_lines(capsys, monkeypatch):
    monkeypatch.setattr(module, "LINE_EVERY_S", 0.0)
    _work(PlainProgress())
    *lines, last, said = capsys.readouterr().out.splitlines()
    assert lines == [
        "stage 1 (last: 2): 36 channels",
        "  train stage 1: 1/3: loss 1, accuracy 0.00 %",
        "  train stage 1: 2/3: loss 0.5, accuracy 25.00 %",
    ]
    assert last.startswith("  train stage 1: 3/3: loss 0.3333, accuracy 50.00 % (")
    assert last.endswith(" s)")
    assert said == "a [line] that stays"


def test_quick_units_do_not_flood_a_log(capsys):
    shown = PlainProgress()
    with shown.task("sweep", 1000) as task:
        for _ in range(1000):
            task.advance()
    assert len(capsys.readouterr().out.splitlines()) <= 3


def test_a_failed_task_writes_no_line_of_success(capsys):
    with pytest.raises(RuntimeError, match="broken"):
        _work(PlainProgress(), fail=True)
    assert "3/3" not in capsys.readouterr().out


@pytest.mark.parametrize("fail", [False, True])
def test_bars_end_and_leave_lines(fail):
    out = io.StringIO()
    shown = TerminalProgress(Console(file=out, force_terminal=True, width=100, color_system=None))
    if fail:
        with pytest.raises(RuntimeError, match="broken"):
            _work(shown, fail=True)
    else:
        _work(shown)
        assert "train stage 1: loss 0.3333, accuracy 50.00 % (" in out.getvalue()
        assert "a [line] that stays" in out.getvalue()
    assert "stage 1 (last: 2): 36 channels" in out.getvalue()
    assert not shown.bars.live.is_started
    assert shown.bars.tasks == []


def test_the_kind_follows_the_output(monkeypatch):
    assert isinstance(progress(quiet=True), SilentProgress)
    assert isinstance(progress(), PlainProgress)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert isinstance(progress(), TerminalProgress)
    _silent_work()


def _silent_work() -> None:
    shown = SilentProgress()
    _work(shown)
