"""Writes a report as one HTML file: no script, no network, light or dark as the reader's system, phone or desk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from energysplit.output.document import Block, Column, Document, Facts, Gallery, KeyNumber, Paragraph, Picture, Table
from energysplit.output.figure_style import css_variables, to_inline_svg

_CSS = """
:root { color-scheme: light dark; %(light)s --page: #f3f5f7; --line: var(--grid);
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) { :root { %(dark)s --page: #0d1216; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 var(--font); }
main { max-width: 1120px; margin: 0 auto; padding: 2rem 1rem 4rem; }
header p.kind { margin: 0; color: var(--muted); font-size: .85rem; letter-spacing: .06em; text-transform: uppercase; }
h1 { margin: .1rem 0 .6rem; font-size: clamp(1.5rem, 5vw, 2.1rem); line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.6rem 0 .8rem; font-size: 1.2rem; }
p { max-width: 46rem; margin: .8rem 0; overflow-wrap: anywhere; }
p.summary { font-size: 1.1rem; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem;
  margin: 1.4rem 0 0; }
.numbers div, figure, .facts, .scroll { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; }
.numbers div { padding: .8rem 1rem; }
.numbers dt { color: var(--muted); font-size: .85rem; }
.numbers dd { margin: 0; }
.numbers dd.value { font-size: 1.6rem; font-weight: 650; line-height: 1.3; font-variant-numeric: tabular-nums; }
.numbers dd.note { color: var(--muted); font-size: .85rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%%, 26rem), 1fr)); gap: .75rem;
  align-items: start; }
@media (min-width: 56rem) { .gallery .tall { grid-row: span 2; } }
.gallery.single { max-width: 40rem; }
figure { margin: 0; padding: .9rem .9rem .7rem; }
figure svg { display: block; width: 100%%; height: auto; }
figcaption { margin-top: .5rem; color: var(--muted); font-size: .85rem; line-height: 1.45; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; width: 100%%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .65rem; text-align: right; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
th.text, td.text { text-align: left; }
td.text { min-width: 16rem; white-space: normal; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { vertical-align: bottom; font-weight: 600; line-height: 1.25; min-width: 5.5rem; }
thead th.noted { min-width: 7rem; }
thead th small { display: block; margin-top: .2rem; color: var(--muted); font-weight: 400; }
tbody th { font-weight: 600; white-space: nowrap; }
tbody th.long { min-width: 12rem; max-width: 22rem; white-space: normal; overflow-wrap: break-word; }
th:first-child { position: sticky; left: 0; min-width: 0; text-align: left; background: var(--paper); }
.facts { display: grid; grid-template-columns: minmax(9rem, 14rem) 1fr; margin: .8rem 0; padding: .4rem 1rem;
  font-size: .92rem; }
.facts dt, .facts dd { margin: 0; padding: .45rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
.facts dt { padding-right: 1rem; color: var(--muted); }
.facts > :nth-last-child(-n+2) { border-bottom: 0; }
@media (max-width: 40rem) {
  main { padding-top: 1.2rem; }
  .numbers { grid-template-columns: 1fr 1fr; }
  .facts { grid-template-columns: 1fr; }
  .facts dt { padding-bottom: 0; border-bottom: 0; }
  .facts dd { padding-top: .1rem; }
  figure { padding: .7rem .5rem .6rem; }
  figcaption { padding: 0 .3rem; }
  th, td { padding: .5rem .6rem; }
  td.text { min-width: 11rem; }
  tbody th.long { min-width: 7.5rem; max-width: 8.5rem; }
}
@media print { body { background: none; } figure, .scroll, .facts { break-inside: avoid; } }
"""


def to_html(document: Document) -> str:
    """The document as one HTML page; everything it shows is inside it."""
    css = _CSS % {"light": css_variables("light"), "dark": css_variables("dark")}
    title = escape(document.title)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title} – energysplit report</title>",
        f"<style>{css}</style>",
        "</head>",
        "<body>",
        "<main>",
        f'<header><p class="kind">energysplit report</p><h1>{title}</h1>',
        f'<p class="summary">{_together(escape(document.summary))}</p>',
        f'<dl class="numbers">{"".join(map(_key_number, document.key_numbers))}</dl></header>',
    ]
    for section in document.sections:
        parts += ["<section>", f"<h2>{escape(section.title)}</h2>", *map(_block, section.blocks), "</section>"]
    return "\n".join([*parts, "</main>", "</body>", "</html>", ""])


def _together(text: str) -> str:
    """Text whose numbers stay on one line with their units."""
    return re.sub(r"(?<=\d) (?=[^\W\d]|%)", "&nbsp;", text)


def _key_number(number: KeyNumber) -> str:
    return (
        f'<div><dt>{escape(number.title)}</dt><dd class="value">{escape(number.value)}</dd>'
        f'<dd class="note">{escape(number.note)}</dd></div>'
    )


def _block(block: Block) -> str:
    match block:
        case Paragraph(text):
            return f"<p>{escape(text)}</p>"
        case Facts(rows):
            pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
            return f'<dl class="facts">{pairs}</dl>'
        case Table(columns, rows):
            # Columns of sentences wrap and are read from the left; numbers stay in one piece.
            texts = [any(len(row[place]) > 30 for row in rows) for place in range(len(columns))]
            head = "".join(map(_head, columns, texts))
            body = "\n".join(_row(row, texts) for row in rows)
            # Focusable, so that it can be scrolled without a mouse.
            return (
                f'<div class="scroll" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
                f"<tbody>\n{body}\n</tbody>\n</table></div>"
            )
        case Gallery(pictures):
            kind = "gallery single" if len(pictures) == 1 else "gallery"
            return f'<div class="{kind}">{"".join(map(_picture, pictures))}</div>'


def _head(column: Column, text: bool) -> str:
    origin = f"<small>{escape(column.origin)}</small>" if column.origin else ""
    kind = ' class="text"' if text else ' class="noted"' if len(column.origin) > 16 else ""
    return f'<th scope="col"{kind}>{escape(column.title)}{origin}</th>'


def _row(cells: tuple[str, ...], texts: Sequence[bool]) -> str:
    first, *rest = cells
    # The first column stays in sight while a table is scrolled: it must leave room for the others on a phone.
    kind = ' class="long"' if len(first) > 16 else ""
    return f'<tr><th scope="row"{kind}>{escape(first)}</th>{"".join(map(_cell, rest, texts[1:]))}</tr>'


def _cell(content: str, text: bool) -> str:
    kind = ' class="text"' if text else ""
    return f"<td{kind}>{escape(content)}</td>"


def _picture(picture: Picture) -> str:
    svg = to_inline_svg(picture.figure, picture.name, escape(picture.alt, quote=True))
    kind = ' class="tall"' if picture.tall else ""
    return f"<figure{kind}>{svg}<figcaption>{escape(picture.caption)}</figcaption></figure>"
