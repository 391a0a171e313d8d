"""The command line: one file per command, nothing heavy imported before a command runs."""

from energysplit.cli.app import app, main

__all__ = ["app", "main"]
