"""Keep the names of patients out of what people read: series descriptions and folder names are known to carry them."""

import re

_PLAIN_WORDS = {"brain", "head", "neck", "heart", "chest", "perfusion"}
"""Words of protocols that stay even where a (synthetic) patient is called so."""


def name_parts(patients) -> set[str]:
    """The parts of the names of patients (ID, name, birth date), lower case, that are long enough to recognize."""
    parts = set()
    for _, name, _ in patients:
        parts.update(part.lower() for part in re.split(r"[\^=\s,._-]+", name) if len(part) >= 3)
    return parts - _PLAIN_WORDS


def without_names(text: str, parts: set[str]) -> str:
    """`text` with every part of a name replaced by ***."""
    for part in sorted(parts, key=len, reverse=True):
        text = re.sub(re.escape(part), "***", text, flags=re.IGNORECASE)
    return text


def same_patient(first: tuple[str, str, str], second: tuple[str, str, str]) -> bool:
    """Whether two (ID, name, birth date) may be one person: nothing that both give differs."""
    for one, other in zip(first, second, strict=True):
        one, other = (re.sub(r"[\^=\s]+", " ", value).strip().lower() for value in (one, other))
        if one and other and one != other:
            return False
    return True
