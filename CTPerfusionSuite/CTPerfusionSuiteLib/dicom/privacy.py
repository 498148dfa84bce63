"""Keep the names of patients out of what people read: series descriptions and folder names are known to carry them."""

import re
import unicodedata
from functools import lru_cache

_PLAIN_WORDS = {"brain", "head", "neck", "heart", "chest", "perfusion", "ct"}
"""Words of protocols that stay even where a (synthetic) patient is called so."""
_MASK = "***"
_BETWEEN = r"[\s^=,._-]"
"""What stands between the parts of a name, in DICOM and in the names of folders."""
_LONG = 3
"""Parts of this many letters are recognized inside words, shorter ones as words only."""
_SPELLED_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "å": "aa", "ø": "oe", "æ": "ae"})


def name_parts(patients) -> set[str]:
    """The parts of the names of patients (ID, name, birth date), in the spellings that folders and descriptions give them.

    A short family or given name is also given together with the other one, as in "LiNa".
    """
    parts = set()
    for name in {name for _, name, _ in patients}:
        for group in unicodedata.normalize("NFC", name).split("="):
            words = [word for word in re.split(f"{_BETWEEN}+", group) if any(map(str.isalpha, word)) or len(word) >= _LONG]
            if len(words) > 1 and min(map(len, words[:2])) < _LONG and len(words[0] + words[1]) > _LONG:
                words += [words[0] + words[1], words[1] + words[0]]
            parts.update(spelling for word in words for spelling in _spellings(word) if spelling not in _PLAIN_WORDS)
    return parts


def _spellings(word: str) -> set[str]:
    """A word in lower case, with accents, without them, and with those of northern Europe spelled out."""
    lower = word.lower()
    if not _has_case(lower):
        return {lower}
    plain = "".join(c for c in unicodedata.normalize("NFKD", lower) if not unicodedata.combining(c))
    return {unicodedata.normalize("NFC", spelling) for spelling in (lower, plain, lower.translate(_SPELLED_OUT))}


def _has_case(word: str) -> bool:
    """Whether a word is of a script with capitals; scripts without write names without gaps, so that one sign may be a part."""
    return word.lower() != word.upper()


def without_names(text: str, parts) -> str:
    """`text` with every part of a name replaced by ***.

    Parts of one or two letters are replaced only as words of their own, initials only beside another part.
    """
    if not parts:
        return text
    names, initials = _patterns(frozenset(parts))
    text = names.sub(_MASK, unicodedata.normalize("NFC", text))
    before = None
    while initials is not None and text != before:
        before, text = text, initials.sub(_MASK, text)
    return text


@lru_cache(maxsize=32)
def _patterns(parts: frozenset[str]) -> tuple[re.Pattern, re.Pattern | None]:
    """What finds names in a text, and initials where names were replaced."""
    initials = [part for part in parts if len(part) == 1 and _has_case(part)]
    names = []
    for part in sorted(parts - set(initials), key=len, reverse=True):
        joined = any(part[:cut] in parts and part[cut:] in parts for cut in (1, 2, -2, -1))
        if _has_case(part) and (len(part) < _LONG or joined):
            names.append(f"(?<!{_same_kind(part[0])}){re.escape(part)}(?!{_same_kind(part[-1])})")
        else:
            names.append(re.escape(part))
    found = re.compile("|".join(names) or r"(?!)", re.IGNORECASE)
    if not initials:
        return found, None
    letter, mask = f"[{''.join(map(re.escape, initials))}]", re.escape(_MASK)
    after = rf"(?:(?<={mask}{_BETWEEN})|(?<={mask}{_BETWEEN}{_BETWEEN})){letter}(?![^\W_])"
    before = rf"(?<![^\W_]){letter}(?={_BETWEEN}{{1,2}}{mask})"
    return found, re.compile(f"{after}|{before}", re.IGNORECASE)


def _same_kind(character: str) -> str:
    """What would continue a word that begins or ends with `character`: after a letter only letters, as in "Li1950"."""
    return r"[^\W_]" if character.isdigit() else r"[^\W\d_]"


def same_patient(first: tuple[str, str, str], second: tuple[str, str, str]) -> bool:
    """Whether two (ID, name, birth date) may be one person: nothing that both give differs."""
    for one, other in zip(first, second, strict=True):
        one, other = (re.sub(r"[\^=\s]+", " ", value).strip().lower() for value in (one, other))
        if one and other and one != other:
            return False
    return True
