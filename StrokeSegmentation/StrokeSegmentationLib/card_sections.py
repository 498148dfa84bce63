"""A model card as sections of a report: of Markdown, what cards use, as plain texts and tables that the page escapes."""

import re

from CTPerfusionSuiteLib.report.page import Note, Section, Table

MOST_NUMERIC = 8
"""Columns up to which a table of numbers is set as one."""
TITLE, PICTURES = "Model card", "Pictures in the model's folder:"
_HEADING, _PICTURE = re.compile(r"(#{1,6})\s+(.*?)[\s#]*"), re.compile(r"!\[([^\]]*)\]\([^)]*\)")
_LINK, _STRESSED = re.compile(r"\[([^\]]+)\]\([^)\s]*\)"), re.compile(r"(?<![\w*])\*(?=\S)([^*]+?)(?<=\S)\*(?![\w*])")
_ITEM, _RULE, _CELLS = re.compile(r"(?:[-*+]|\d+[.)])\s+(.*)"), re.compile(r"(?:-{3,}|\*{3,}|_{3,}|```.*)"), re.compile(r"(?<!\\)\|")
_DIVIDER, _NUMBER = re.compile(r"\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?"), re.compile(r"[-+]?[\d.,]+\s*%?(?:\s*\(.*\))?|-|")


def card_sections(card: str) -> tuple[Section, ...]:
    """Sections by the card's headings; a heading without anything below it is left out.

    Tables become tables, lines of a paragraph are joined, pictures are named, and what only marks text in Markdown is taken away.

    Parameters
    ----------
    card : str
        Markdown; untrusted text.
    """
    sections: list[tuple[str, list]] = [(TITLE, [])]
    lines = [line.strip() for line in card.splitlines()]
    number = 0
    while number < len(lines):
        line = lines[number]
        heading = _HEADING.fullmatch(line)
        taken = 1
        if heading:
            # The first of the highest order is the model's name, which the page says elsewhere.
            sections.append((TITLE if len(heading[1]) == 1 else f"{TITLE}: {plain_text(heading[2])}", []))
        elif line.startswith("|") and number + 1 < len(lines) and "-" in lines[number + 1] and _DIVIDER.fullmatch(lines[number + 1]):
            taken = next((n for n, other in enumerate(lines[number:]) if not other.startswith("|")), len(lines) - number)
            sections[-1][1].append(_table(lines[number], lines[number + 2 : number + taken]))
        elif line and not _RULE.fullmatch(line):
            taken = next((n for n, other in enumerate(lines[number:]) if n and _begins_anew(other)), len(lines) - number)
            _add_text(sections[-1][1], " ".join(lines[number : number + taken]))
        number += taken
    return tuple(Section(title, tuple(parts)) for title, parts in sections if parts)


def plain_text(text: str) -> str:
    """Text without marks of stress, code and links."""
    text = _LINK.sub(r"\1", text.replace("**", "").replace("`", ""))
    return _STRESSED.sub(r"\1", text).strip()


def _begins_anew(line: str) -> bool:
    """Whether a line does not go on with the paragraph before it."""
    return not line or line.startswith("|") or any(kind.fullmatch(line) for kind in (_HEADING, _ITEM, _RULE))


def _add_text(parts: list, paragraph: str) -> None:
    """A paragraph or an item of a list, and the names of its pictures beside those of the pictures just before."""
    item = _ITEM.fullmatch(paragraph)
    text = plain_text(_PICTURE.sub("", item[1] if item else paragraph))
    if text:
        parts.append(Note(f"\u2022 {text}" if item else text))
    names = [plain_text(name) for name in _PICTURE.findall(paragraph) if name.strip()]
    if names and parts and isinstance(parts[-1], Note) and parts[-1].text.startswith(PICTURES):
        parts.append(Note(f"{parts.pop().text.removesuffix('.')}, {', '.join(names)}."))
    elif names:
        parts.append(Note(f"{PICTURES} {', '.join(names)}."))


def _table(head: str, rows: list[str]) -> Table:
    """A table; rows are filled up or cut to the columns of its head."""
    columns = _cells(head)
    body = [(_cells(row) + [""] * len(columns))[: len(columns)] for row in rows]
    values = [cell for row in body for cell in row[1:] if cell]
    # Columns of numbers do not wrap, so a wide table of them would not fit the page.
    numeric = len(columns) <= MOST_NUMERIC and 2 * sum(bool(_NUMBER.fullmatch(cell)) for cell in values) >= len(values)
    return Table(tuple(columns), tuple(map(tuple, body)), numeric=numeric)


def _cells(row: str) -> list[str]:
    inside = row.removeprefix("|")
    inside = inside[:-1] if inside.endswith("|") and not inside.endswith("\\|") else inside
    return [plain_text(cell.replace("\\|", "|")) for cell in _CELLS.split(inside)]
