"""Processes that start warm, and a tiny growth that nobody disturbs."""

from __future__ import annotations

from collections.abc import Callable

import faulty_runs
import growth_runs
import pytest
from launched import warm

from energysplit.experiment.recipe_file import write_recipe


@pytest.fixture
def tell(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], in_full: bool) -> Callable[[str], None]:
    """Says what a test did, in a line: at once, and together with all others' lines at the end of `make faults`."""

    def said(text: str) -> None:
        request.node.user_properties.append(("did", text))
        if in_full:
            with capsys.disabled():
                print(f"\n{request.node.name}: {text}", flush=True)

    return said


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """The lines, test by test."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    lines = [
        f"{report.nodeid.rpartition('::')[2]}: {text}"
        for report in reports
        if getattr(report, "when", "") == "call"
        for key, text in report.user_properties
        if key == "did"
    ]
    if config.getoption("--faults") and lines:
        terminalreporter.section("what was tried")
        terminalreporter.write_line("\n".join(lines))


@pytest.fixture(scope="session")
def processes():
    return warm()


@pytest.fixture(scope="session")
def run_command(processes):
    """Exit code and output of a command in a warm process."""
    return lambda *arguments: faulty_runs.Child(processes, faulty_runs.command, [*map(str, arguments)]).end()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, run_command):
    """A recipe of one growth, and the folder of a run of it that nobody disturbed."""
    folder = tmp_path_factory.mktemp("tiny")
    recipe = write_recipe(folder / "tiny.toml", growth_runs.tiny(train={"epochs": 1}, growth={"stages": 1}))
    code, said = run_command("grow", recipe, "--run", folder / "run")
    assert code == 0, said
    return recipe, folder / "run"
