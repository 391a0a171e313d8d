"""What the package says of itself: one version, the licence, the papers, and what it needs."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def project() -> dict:
    """The project's own description."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_there_is_one_version_number(project):
    try:
        installed = metadata.version("energysplit")
    except metadata.PackageNotFoundError:
        pytest.skip("energysplit is not installed: pip install -e .")
    assert installed == project["version"]
    others = [
        path for path in (ROOT / "energysplit").rglob("*.py") if re.search(r"^__version__\s*=", path.read_text(), re.M)
    ]
    assert others == []


def test_the_licence_is_apache_2(project):
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert project["license"] == "Apache-2.0"


def test_the_three_papers_are_cited():
    text = (ROOT / "CITATION.cff").read_text()
    assert set(re.findall(r'value: "arXiv:([\d.]+)"', text)) == {"1910.03103", "1910.02366", "2003.10392"}


def test_every_dependency_is_bounded_and_used(project):
    imported = {
        match
        for path in (ROOT / "energysplit").rglob("*.py")
        for match in re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(), re.M)
    }
    modules = {"scikit-learn": "sklearn", "pillow": "PIL", "tomli-w": "tomli_w"}
    # Needed by others at run time, without an import of ours: the solver behind cvxpy, the exporter behind torch.
    behind = {"highspy", "onnxscript"}
    for requirement in project["dependencies"]:
        name = re.match(r"[\w-]+", requirement)[0]
        assert re.search(r">=[\d.]+,<[\d.]+$", requirement), f"{requirement}: no bounds"
        assert name in behind or modules.get(name, name) in imported, f"{name}: nothing imports it"


def test_every_import_is_a_dependency(project):
    """Nothing is imported that pip would not have installed (and extras are imported inside functions only)."""
    import sys

    names = {re.match(r"[\w-]+", requirement)[0].lower() for requirement in project["dependencies"]}
    names |= {"sklearn", "PIL", "tomli_w", "energysplit"} | set(sys.stdlib_module_names)
    # google.protobuf comes with onnx.
    names |= {"google"}
    for path in (ROOT / "energysplit").rglob("*.py"):
        for module in re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.M):
            assert module in names, f"{path}: imports {module}, which is no dependency"


def test_the_command_is_installed_under_its_name(project):
    assert project["scripts"] == {"energysplit": "energysplit.cli:main"}
    from energysplit.cli import main

    assert callable(main)


def test_make_has_the_documented_targets_and_ci_uses_them():
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "lint"):
        assert re.search(rf"^{target}:", makefile, re.M)
    ci = ROOT / ".ci" / "run"
    assert ci.stat().st_mode & 0o111
    assert "make lint" in ci.read_text()
    assert "make test" in ci.read_text()
