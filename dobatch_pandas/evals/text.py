"""How two free texts are compared: the rules, each a function of (predicted, actual)."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

__all__ = ["contains", "exact", "normalise", "normalised", "regex", "token_f1"]

# Punctuation goes, but not where it carries a number's value: 3.14, 1,000, -5.
_PUNCTUATION = re.compile(r"(?<=\d)[^\w\s](?=\d)|(?<!\w)-(?=\d)|([^\w\s])")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalise(text: str) -> str:
    """
    Return the text without case, punctuation, English articles and extra white space.

    The rule of the SQuAD evaluation script, after Unicode's NFKC form; signs that carry a number's value
    stay (``3.14``, ``-5``). A text that holds nothing else is kept as it is, only folded.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    bare = _PUNCTUATION.sub(lambda found: "" if found.group(1) else found.group(), folded)
    words = " ".join(_ARTICLES.sub(" ", bare).split())
    return words or " ".join(folded.split())


def exact(predicted: str, actual: str) -> float:
    """1 where the texts are the same, character by character."""
    return float(predicted == actual)


def normalised(predicted: str, actual: str) -> float:
    """1 where the normalised texts are the same."""
    return float(normalise(predicted) == normalise(actual))


def contains(predicted: str, actual: str) -> float:
    """1 where the normalised gold text stands in the normalised answer, as whole words."""
    return float(f" {normalise(actual)} " in f" {normalise(predicted)} ")


def regex(predicted: str, actual: str) -> float:
    """1 where the gold column's regular expression is found in the answer."""
    return float(re.search(actual, predicted) is not None)


def token_f1(predicted: str, actual: str) -> float:
    """F1 of the two bags of normalised words, as in the SQuAD evaluation script."""
    ours, gold = normalise(predicted).split(), normalise(actual).split()
    if not ours or not gold:
        return float(ours == gold)
    common = sum((Counter(ours) & Counter(gold)).values())
    return 2 * common / (len(ours) + len(gold))
