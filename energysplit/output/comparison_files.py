"""Writes the page of a comparison: `compare.html`, `compare.md` and `figures/` in a folder of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from energysplit.errors import RunError
from energysplit.output.atomic import atomic_folder, write_text
from energysplit.output.comparison import Comparison
from energysplit.output.comparison_content import comparison_document
from energysplit.output.document import Section
from energysplit.output.figure_style import to_svg
from energysplit.output.report_html import to_html
from energysplit.output.report_markdown import to_markdown

HTML_FILE, MARKDOWN_FILE, FIGURES = "compare.html", "compare.md", "figures"


def check_folder(folder: Path) -> None:
    """Nothing, if a comparison may be written to a folder: it is new or empty, or holds an earlier comparison only.

    Raises:
        RunError: it holds something else, is a file, or can't be read.
    """
    advice = "expected a new folder or that of an earlier comparison; name one with --out"
    try:
        if not folder.exists():
            return
        if not folder.is_dir():
            raise RunError(f"{folder} is a file; {advice}")
        names = {path.name for path in folder.iterdir()}
        figures = folder / FIGURES
        drawn = {path.name for path in figures.iterdir()} if figures.is_dir() else set()
    except OSError as error:
        raise RunError(f"{folder} can't be read: {error.strerror}; {advice}") from error
    other = sorted(name for name in names if name not in (HTML_FILE, MARKDOWN_FILE, FIGURES) and not _left_over(name))
    other += sorted(f"{FIGURES}/{name}" for name in drawn if not re.fullmatch(r"accuracy-.*\.svg", name))
    if other:
        first = ", ".join(other[:3]) + (", ..." if other[3:] else "")
        raise RunError(f"{folder} holds something else ({first}); {advice}")


def _left_over(name: str) -> bool:
    """Whether a name is one that a killed writer of a comparison leaves."""
    written = "|".join(map(re.escape, (HTML_FILE, MARKDOWN_FILE, FIGURES)))
    return re.fullmatch(rf"\.({written})\.(.*\.)?(partial|new|old)", name) is not None


def write_comparison(
    folder: Path | str, comparison: Comparison, title: str = "Comparison of runs", first: Sequence[Section] = ()
) -> Path:
    """The path of `compare.html`; page, Markdown and figures are replaced, each atomically.

    Args:
        folder: of the page; new, or an earlier comparison's.
        comparison: what it shows.
        title: of the page.
        first: sections at its top.

    Raises:
        RunError: the folder holds something else, or can't be written.
    """
    folder = Path(folder)
    check_folder(folder)
    document = comparison_document(comparison, title, first)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder / FIGURES) as figures:
            for picture in document.pictures():
                write_text(figures / f"{picture.name}.svg", to_svg(picture.figure))
        write_text(folder / MARKDOWN_FILE, to_markdown(document))
        return write_text(folder / HTML_FILE, to_html(document))
    except OSError as error:
        raise RunError(f"{folder} can't be written: {error.strerror}; name another folder with --out") from error
