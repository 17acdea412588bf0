"""Values as texts, so that what is equal reads the same: to compare them, to group by them and to show them."""

from __future__ import annotations

import ast
import datetime
import enum
import json
import math
import re
import unicodedata
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["LIST_LIKE", "as_text", "clean", "composed", "is_missing", "literal", "normalise", "plain_value"]

LIST_LIKE = (list, tuple, set, frozenset, np.ndarray)

# Signs that may stand at a word's edge without meaning: quotes, brackets, stops, Markdown's emphasis.
_EDGE = set("\"'`´‘’‚‛“”„‟«»‹›()[]{}.,;:!?¡¿…*_–—")
_SUPERSCRIPT = str.maketrans(
    {
        **{sign: f"^{n}" for n, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
        **{s: f"_{n}" for n, s in enumerate("₀₁₂₃₄₅₆₇₈₉")},
    }
)
_ARTICLES = ("a", "an", "the")


def clean(text: str) -> str:
    """Return the text with a replacement sign where half a surrogate pair stands, and whole pairs joined."""
    if text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def composed(text: str) -> str:
    """Return the text with each letter and its accents as one sign, where there is one: both ways look the same."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def as_text(value: Any) -> str:
    """
    Return a value as text, equal values as equal texts.

    ``1``, ``1.0`` and ``Decimal("1.00")`` are ``1``; a moment at midnight is its day; lists and dicts are JSON; a member
    of an enumeration is its value.
    """
    if isinstance(value, enum.Enum):
        value = value.value  # what a schema asks for, and a model answers
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value.item()
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return str(int(number)) if number.is_integer() else repr(number)
    if isinstance(value, Decimal):
        if not value.is_finite():
            return str(value)
        return str(int(value)) if value == value.to_integral_value() else format(value.normalize(), "f")
    if isinstance(value, (datetime.date, np.datetime64)):
        if is_missing(value):
            return "NaT"
        moment = pd.Timestamp(value)
        if moment.tzinfo is None and moment == moment.normalize():
            return moment.date().isoformat()
        return moment.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, (*LIST_LIKE, dict)):
        return json.dumps(plain_value(value), ensure_ascii=False, sort_keys=True)
    return clean(str(value))


def plain_value(value: Any) -> Any:
    """A nested value as JSON has it."""
    if isinstance(value, dict):
        return {as_text(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain_value(item) for item in value), key=str)
    if isinstance(value, np.ndarray) and not value.ndim:
        return plain_value(value.item())
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain_value(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if is_missing(value):
        return None
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating, Decimal)):
        return int(value) if math.isfinite(value) and value == int(value) else float(value)
    return as_text(value)


def literal(text: str) -> Any:
    """Return the list or dict that a text is, as JSON or as Python writes it; None for what is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip()) if text.lstrip()[:1] in ("[", "(", "{") else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def is_missing(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def normalise(text: str, *, options: bool = False) -> str:
    """
    Return the text without case, English articles, extra white space, and punctuation that carries no meaning.

    After the SQuAD evaluation script, but nothing goes that tells answers apart: signs such as ``+ # % $ < > =``
    stay (``C++``, ``<5``), so do dots and hyphens inside a word or a number (``U.S.``, ``3.14``, ``-5``, ``.5``)
    and a grade's sign (``A-``). An article goes only where a word follows it: the option ``A`` stays.
    ``options=True`` keeps every capital ``A``. A text that holds nothing else is kept as it is, only folded.
    """
    written = clean(text).translate(_SUPERSCRIPT)
    written = "".join(_fraction(sign) for sign in written) if not written.isascii() else written
    plain = unicodedata.normalize("NFKC", written).replace("−", "-").replace("⁄", "/")
    plain = re.sub(r"(?<=\d)\s+(?=[%‰°])|(?<=[$€£¥])\s+(?=\d)|\s*(?=[=<>])|(?<=[=<>])\s+", "", plain)
    plain = re.sub(r"(?<=[^\W\d_])[,;:](?=[^\W\d_])", " ", plain)
    pieces = plain.split()
    shouting = len(pieces) > 1 and plain.upper() == plain
    words: list[str] = []
    opening = True  # a sentence begins
    for place, piece in enumerate(pieces):
        word = _bare(piece)
        folded = word.casefold()
        article = folded in _ARTICLES and piece == word and place + 1 < len(pieces)
        if article and word == "A":
            article = (opening or shouting) and not options
        if article:
            following = _bare(pieces[place + 1])
            article = bool(following) and (following[0].isalnum())
        opening = piece[-1] in ".!?:"
        if folded and not article:
            words.append(folded)
    return " ".join(words) or " ".join(plain.casefold().split())


def _fraction(sign: str) -> str:
    if unicodedata.category(sign) != "No" or "⁄" not in unicodedata.normalize("NFKC", sign):
        return sign
    value = Fraction(unicodedata.numeric(sign)).limit_denominator(10)
    return f" {value} "


def _bare(piece: str) -> str:
    """A word without the signs around it that carry no meaning."""
    start, end = 0, len(piece)
    while start < end and piece[start] in _EDGE:
        if piece[start] == "." and piece[start + 1 : start + 2].isdigit():  # .5
            break
        start += 1
    while end > start and piece[end - 1] in _EDGE:
        if piece[end - 1] in "'\"" and start == 0 and piece[end - 2 : end - 1].isdigit():  # 5' and 5"
            break
        end -= 1
    word = piece[start:end]
    if word.startswith("-") and not word[1:2].isdigit() and not word[1:3].startswith("."):
        word = word.lstrip("-")
    if word.endswith("-") and len(word) > 3:  # A- is a grade, Rh- a blood group
        word = word.rstrip("-")
    word = re.sub(r"(?<=\w)['’`](?=\w)", "", word)
    return re.sub(r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})", "", word)
