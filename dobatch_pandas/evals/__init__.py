"""Evaluations of answers: how good, where wrong, is B really better than A, and show me those rows."""

from __future__ import annotations

from .compare import compare
from .explore import explore
from .explorer import Explorer
from .findings import Comparison, Counts, Evaluation, Noise
from .judge import agreement, judge
from .judged import Judged, judged
from .pairs import Pairwise, Ranking, pairwise, rank
from .raters import Calibration, Raters, calibrate, krippendorff_alpha, raters
from .saved import Evaluations, evaluations, load
from .score import score

__all__ = [
    "Calibration",
    "Comparison",
    "Counts",
    "Evaluation",
    "Evaluations",
    "Explorer",
    "Judged",
    "Noise",
    "Pairwise",
    "Ranking",
    "Raters",
    "agreement",
    "calibrate",
    "compare",
    "evaluations",
    "explore",
    "judge",
    "judged",
    "krippendorff_alpha",
    "load",
    "pairwise",
    "rank",
    "raters",
    "score",
]
