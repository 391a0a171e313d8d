"""The command line as a whole: start-up, exit codes, and what goes where."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from energysplit.cli import app
from energysplit.errors import CheckFailed, InputError

MAIN = [sys.executable, "-c", "from energysplit.cli import main; main()"]
HEAVY = ("torch", "torchvision", "pandas", "cvxpy", "matplotlib", "numpy", "scipy", "onnx", "accelerate", "pydantic")


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from energysplit.cli import main\n"
        "sys.argv = ['energysplit', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    print('exit', stop.code)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *text, code_line, heavy = done.stdout.strip().splitlines()
    assert heavy == "[]"
    assert code_line == "exit 0"
    for command in ("grow", "price", "allocate", "frontier", "compare", "profile", "export", "report", "env"):
        assert any(line.split()[:1] == [command] for line in text)


@pytest.mark.parametrize(
    "command", ["grow", "price", "allocate", "frontier", "compare", "profile", "export", "report", "env"]
)
def test_every_command_has_help(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout
    assert "Raises" not in result.stdout


@pytest.mark.parametrize("arguments", [["gorw"], ["grow"], ["grow", "--no-such-option", "x"], ["price"]])
def test_wrong_usage_is_exit_2(arguments):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "Usage" in result.stderr


def test_an_option_without_its_value_is_exit_2():
    result = CliRunner().invoke(app, ["price", "mlp", "--image"])
    assert (result.exit_code, result.stderr) == (2, "Error: Option '--image' requires an argument.\n")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("no such thing"), 2, "error: no such thing\n"),
        (CheckFailed("outputs differ"), 1, "check failed: outputs differ\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (BrokenPipeError(), 141, ""),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a"),
            2,
            "error: runs/a: No space left on device; free some space there\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "a"),
            2,
            "error: a: Permission denied; make it readable and writable\n",
        ),
    ],
)
def test_errors_become_one_message_and_an_exit_code(monkeypatch, error, code, message):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("energysplit.costs.configured.configured", fail)
    result = CliRunner().invoke(app, ["price", "mlp"])
    assert (result.exit_code, result.stderr) == (code, message)


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("ours"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "no_such_table.csv"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_bug_keeps_its_traceback(monkeypatch, error):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("energysplit.costs.configured.configured", fail)
    result = CliRunner().invoke(app, ["price", "mlp"])
    assert result.exception is error


def test_a_reader_that_leaves_early_is_no_error():
    head = subprocess.Popen([sys.executable, "-c", "pass"], stdin=subprocess.PIPE)
    head.wait()
    done = subprocess.run([*MAIN, "price", "mlp"], stdout=head.stdin, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


def test_long_messages_are_cut_with_several_processes_too():
    code = (
        "from energysplit.cli.processes import one_voice\n"
        "from energysplit.errors import DataError\n"
        "with one_voice():\n    raise DataError('x' * 10_000)"
    )
    several = {**os.environ, "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=several, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"error: {'x' * 4000} ... (6,000 characters more)\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_output_to_a_full_disk_is_an_error_of_one_line(argument):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*MAIN, argument], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: a file, or the output: No space left on device; free some space there\n"
