"""The command `energysplit`, and what an error becomes there: one message and an exit code.

0 done; 1 a check of the run failed, or a process of it was lost; 2 the input was wrong, or the disk refused a file;
130 interrupted; 141 nobody reads the output any more.
Anything else that goes wrong is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from energysplit.cli import allocate, compare, env, experiment, export, frontier, grow, price, profile, report
from energysplit.cli.endings import NO_READER, ending
from energysplit.errors import EnergysplitError


class _Commands(TyperGroup):
    """Commands whose errors become messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command named on the command line.

        Raises:
            typer.Exit: with the exit code that fits the error.
        """
        try:
            return super().invoke(ctx)
        except (EnergysplitError, KeyboardInterrupt, BrokenPipeError) as error:
            raise typer.Exit(_told(error)) from None

    def main(self, *arguments: Any, **options: Any) -> Any:
        """The whole command line, help included.

        Raises:
            SystemExit: with the exit code.
        """
        try:
            return super().main(*arguments, **options)
        except OSError as error:
            raise SystemExit(_told(error)) from None


def _told(error: BaseException) -> int:
    """The exit code, after saying what went wrong. Where that goes to a file on a full disk, the code alone says it.

    Raises:
        BaseException: the error itself, a bug.
    """
    if (end := ending(error)) is None:
        raise error
    if end.message:
        with suppress(OSError):
            typer.echo(end.message, err=True)
    return end.code


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
