"""The report page: what it can hold, and its one self-contained HTML file.

A page is built of plain parts (figures of merit, tables, pictures, flags, facts) that know nothing of the organ; the template
draws them.  Every text is escaped, pictures are embedded, and the page may load nothing and run nothing.
"""

from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path

NOTICE = "Research use only. Not for clinical diagnosis."


@dataclass(frozen=True)
class Headline:
    """A number to be seen first: what it is, its value and unit, and how it was defined; `color` marks it as in the pictures."""

    label: str
    value: str
    unit: str = ""
    definition: str = ""
    color: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of texts; the first column names the row.  `numeric`: the other columns hold numbers.  `strong`: rows set in bold."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    numeric: bool = True
    strong: tuple[int, ...] = ()
    kind: str = field(default="table", init=False)


@dataclass(frozen=True)
class Picture:
    """A PNG with a caption and a text for those who cannot see it.  `width` is its pixels on a screen."""

    png: bytes
    alt: str
    caption: str = ""
    kind: str = field(default="picture", init=False)

    @property
    def source(self) -> str:
        """The picture as a data URI."""
        return "data:image/png;base64," + b64encode(self.png).decode("ascii")

    @property
    def width(self) -> int:
        # Drawn at one and a half times its size on the page: sharp on paper and on dense screens.
        return round(int.from_bytes(self.png[16:20], "big") / 1.5)


@dataclass(frozen=True)
class Flag:
    """A finding about quality; severity is "info", "warning" or "error"."""

    severity: str
    message: str
    code: str = ""


@dataclass(frozen=True)
class Flags:
    """A list of `Flag`; `none` is said when it is empty."""

    flags: tuple[Flag, ...]
    none: str = "None."
    kind: str = field(default="flags", init=False)


@dataclass(frozen=True)
class Facts:
    """Pairs of name and text, optionally under a heading."""

    pairs: tuple[tuple[str, str], ...]
    heading: str = ""
    kind: str = field(default="facts", init=False)


@dataclass(frozen=True)
class Note:
    """A sentence; `loud` puts it in a box."""

    text: str
    loud: bool = False
    kind: str = field(default="note", init=False)


@dataclass(frozen=True)
class Section:
    """A titled part of the page.  `beside`: its parts stand side by side where there is room."""

    title: str
    parts: tuple
    beside: bool = False


@dataclass(frozen=True)
class Page:
    """A whole report."""

    title: str
    subtitle: str
    facts: tuple[tuple[str, str], ...]
    headlines: tuple[Headline, ...]
    sections: tuple[Section, ...]
    notice: str = NOTICE
    footer: str = ""


def render(page: Page) -> str:
    """The page as HTML.

    Raises
    ------
    ReportUnavailable
        Without jinja2.
    """
    from .canvas import require_packages

    require_packages()
    from jinja2 import Environment, StrictUndefined

    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(page=page)


def write_page(path: Path, page: Page) -> None:
    """Write the page to `path` as UTF-8."""
    Path(path).write_text(render(page), encoding="utf-8", newline="\n")
