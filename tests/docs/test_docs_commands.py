"""Commands, files and pages that the documentation names are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from energysplit.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"(?:energysplit|.*-m energysplit) +(?=[a-z])(.+)")

PLACES = ("recipes", "experiments", "tests", "benchmarks", "docs", "energysplit", "hardware_profiles")
FILE = re.compile(rf"(?<![\w/.])(?:{'|'.join(PLACES)})/[\w./-]*\w")


def code(page: Path) -> list[str]:
    """What stands in backquotes and in indented and fenced blocks, a line each."""
    text = page.read_text()
    blocks = re.findall(r"^```(?:sh|bash|console|text)?\n(.*?)^```", text, re.S | re.M)
    lines = [line for block in blocks for line in block.splitlines()]
    return lines + re.findall(r"^ {4}(\S.*)$", text, re.M) + re.findall(r"`([^`\n]+)`", text)


def words(line: str) -> list[str]:
    """A command line's words without its comment."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # an apostrophe in prose
        return line.split("#")[0].split()


def commands() -> list[tuple[str, str]]:
    """Page and command line, from the name of the command on."""
    return [(page.name, found[1]) for page in PAGES for line in code(page) if (found := COMMAND.match(line.strip()))]


def test_there_are_commands():
    assert len(commands()) > 40
    assert {page for page, _ in commands()} >= {"README.md", "devices.md", "budgets.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page):
    known: Any = typer.main.get_command(app)
    for line in code(page):
        if (found := COMMAND.match(line.strip())) is None:
            continue
        name, *rest = words(found[1])
        for each in name.split("|"):
            assert each in known.commands, f"{page.name}: {line}"
            options = {option for parameter in known.commands[each].params for option in parameter.opts} | {"--help"}
            for word in rest:
                if re.match(r"\[?--?[a-z]", word):
                    assert word.strip("[]").split("=")[0] in options, f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text()
    for line in code(page):
        if line.startswith("make "):
            for word in words(line)[1:]:
                pattern = rf"^{re.escape(word.split('=')[0])} *\?=" if "=" in word else rf"^{re.escape(word)}:"
                assert re.search(pattern, makefile, re.M), f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_the_repository_exist(page):
    for line in code(page):
        for file in FILE.findall(line):
            assert (ROOT / file).exists() or (ROOT / "energysplit" / file).exists(), f"{page.name}: {file}"


def test_the_list_of_pages_has_every_page():
    index = (ROOT / "docs" / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index] == ["README.md"]
    assert "docs/README.md" in (ROOT / "README.md").read_text()


def test_files_of_a_first_visit_are_there():
    assert {"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"} <= {page.name for page in PAGES}
