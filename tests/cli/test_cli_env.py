"""`energysplit env`: names what is there and what is missing."""

from __future__ import annotations

import platform
from importlib import metadata

from typer.testing import CliRunner

from energysplit.cli import app


def _facts() -> dict[str, str]:
    result = CliRunner().invoke(app, ["env"])
    assert result.exit_code == 0, result.output
    rows = (line.split("  ", 1) for line in result.stdout.splitlines())
    return {row[0]: row[1].strip() for row in rows if len(row) == 2}


def test_versions_machine_and_providers_are_named():
    facts = _facts()
    assert facts["python"] == platform.python_version()
    assert facts["torch"] == metadata.version("torch")
    assert "cores usable" in facts["processor"]
    assert "GiB" in facts["memory"]
    assert {"macs", "params"} <= set(facts["cost providers"].split(", "))
    assert any(name.startswith("cuda") for name in facts)


def test_extras_that_are_missing_say_how_to_get_them(monkeypatch):
    needs = ["torch>=2", 'zeus>=0.11; extra == "energy"', "pytest>=8; extra == 'test'", 'no-such; extra == "other"']
    monkeypatch.setattr(metadata, "requires", lambda name: needs)
    facts = _facts()
    assert facts["extra test"] == "installed"
    assert facts["extra other"] == "not installed: no-such (pip install 'energysplit[other]')"


def test_a_package_that_runs_from_its_folder_says_so(monkeypatch):
    def missing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    assert "not installed" in _facts()["extras"]
