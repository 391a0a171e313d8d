"""A report before it has a format: paragraphs, facts, tables and figures, which HTML and Markdown write alike."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Names and what they are."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Column:
    """A column's title and where its numbers come from: "counted", "measured", "estimated", or empty."""

    title: str
    origin: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text, as wide as `columns`; the first column names the row."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows)


@dataclass(frozen=True)
class Picture:
    """A figure. name: its file's, without ending. alt: what it shows, for those who can't see it. tall: twice a row."""

    name: str
    figure: Figure
    caption: str
    alt: str
    tall: bool = False


@dataclass(frozen=True)
class Gallery:
    """Figures that stand side by side where there is room."""

    pictures: tuple[Picture, ...]


Block = Paragraph | Facts | Table | Gallery


@dataclass(frozen=True)
class Section:
    """A title and what is under it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class KeyNumber:
    """One of the few numbers at the top: what it is, its value now, and how it got there."""

    title: str
    value: str
    note: str


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    summary: str
    key_numbers: tuple[KeyNumber, ...]
    sections: tuple[Section, ...]

    def pictures(self) -> list[Picture]:
        """All figures, in order."""
        blocks = [block for section in self.sections for block in section.blocks]
        return [picture for block in blocks if isinstance(block, Gallery) for picture in block.pictures]
