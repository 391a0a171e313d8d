"""Writes a report as Markdown that GitHub and plain readers show alike; figures are files beside it."""

from __future__ import annotations

import re

from energysplit.output.document import Block, Column, Document, Facts, Gallery, Paragraph, Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~$])")


def to_markdown(document: Document) -> str:
    """The document as Markdown, whose figures are SVG files in a folder `figures` beside it."""
    lines = [f"# {escape(document.title)}", "", escape(document.summary), ""]
    for section in document.sections:
        lines += [f"## {escape(section.title)}", ""]
        for block in section.blocks:
            lines += [*_block(block), ""]
    return "\n".join(lines).rstrip() + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = " ".join(text.split())
    return _SPECIAL.sub(r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _block(block: Block) -> list[str]:
    match block:
        case Paragraph(text):
            return [escape(text)]
        case Facts(rows):
            return [f"- {escape(name)}: {escape(value)}" for name, value in rows]
        case Table(columns, rows):
            head = [_title(column) for column in columns]
            align = ["---", *["---:"] * (len(columns) - 1)]
            return [_row(head), _row(align), *(_row([escape(cell) for cell in row]) for row in rows)]
        case Gallery(pictures):
            parts = [
                [f"![{escape(picture.alt)}](figures/{picture.name}.svg)", "", f"{escape(picture.caption)}"]
                for picture in pictures
            ]
            return [line for part in parts for line in (*part, "")][:-1]


def _title(column: Column) -> str:
    return f"{escape(column.title)} ({column.origin})" if column.origin else escape(column.title)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
