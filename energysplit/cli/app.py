"""The command `energysplit`, and what an error becomes there: one message and an exit code.

0 done; 1 a check of the run failed; 2 the input was wrong; 130 interrupted; 141 nobody reads the output any more.
Anything else that goes wrong is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from energysplit.cli import allocate, compare, env, experiment, export, frontier, grow, price, profile, report
from energysplit.errors import CheckFailed, InputError, SolverFailed

CHECK_FAILED, WRONG_INPUT, INTERRUPTED, NO_READER = 1, 2, 130, 141


LONGEST = 4000
"""Characters of a message: what a damaged file holds is quoted in some, and may be long."""


def _short(message: str) -> str:
    left_out = len(message) - LONGEST
    return message if left_out <= 0 else f"{message[:LONGEST]} ... ({left_out:,} characters more)"


class _Commands(TyperGroup):
    """Commands whose errors become messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command named on the command line.

        Raises:
            typer.Exit: with the exit code that fits the error.
        """
        try:
            return super().invoke(ctx)
        except InputError as error:
            typer.echo(f"error: {_short(str(error))}", err=True)
            raise typer.Exit(WRONG_INPUT) from None
        except (CheckFailed, SolverFailed) as error:
            typer.echo(f"check failed: {_short(str(error))}", err=True)
            raise typer.Exit(CHECK_FAILED) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise typer.Exit(NO_READER) from None


app = typer.Typer(
    cls=_Commands,
    help="Grows a small neural network by splitting neurons, inside a budget.",
    no_args_is_help=True,
    add_completion=False,
    # Plain help: rich's takes 0.1 s to import, and a pipe gets no frames.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("energysplit"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command()(grow.grow)
app.command()(profile.profile)
app.command()(price.price)
app.command()(allocate.allocate)
app.command()(frontier.frontier)
app.command()(compare.compare)
app.command()(experiment.experiment)
app.command()(export.export)
app.command()(report.report)
app.command()(env.env)


def main() -> None:
    """Run the command line; the console script `energysplit`.

    Raises:
        SystemExit: always, with the exit code.
    """
    status: Any = 0
    try:
        app()
    except SystemExit as stop:
        status = stop.code
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at exit; with the reader gone that would print a second error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = NO_READER
    raise SystemExit(status)
