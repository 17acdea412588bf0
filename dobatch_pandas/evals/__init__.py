"""Evaluations of answers: how good, where wrong, is B really better than A, and show me those rows."""

from __future__ import annotations

from .compare import compare
from .comparison import Comparison
from .evaluation import Counts, Evaluation, Noise
from .explore import explore
from .explorer import Explorer
from .judge import agreement, judge
from .pairs import Pairwise, pairwise
from .score import score

__all__ = [
    "Comparison",
    "Counts",
    "Evaluation",
    "Explorer",
    "Noise",
    "Pairwise",
    "agreement",
    "compare",
    "explore",
    "judge",
    "pairwise",
    "score",
]
