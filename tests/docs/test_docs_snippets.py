"""Python snippets of README and docs run as they stand, each document from top to bottom."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from recipe_keys import render

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if "```python" in path.read_text()
]


def test_there_are_documents_with_snippets():
    assert {path.name for path in DOCUMENTS} >= {"README.md", "cost-providers.md"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_snippets_run(document, tmp_path):
    code = "\n".join(re.findall(r"```python\n(.*?)```", document.read_text(), flags=re.S))
    # A process of its own: a snippet registers a provider.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "->" in done.stdout


@pytest.mark.parametrize(
    "document",
    [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_to_files_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_the_page_of_recipe_keys_is_that_of_the_schema():
    assert (ROOT / "docs" / "recipes.md").read_text() == render(), "python tests/recipe_keys.py > docs/recipes.md"
