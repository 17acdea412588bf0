"""Frames that several of these tests use."""

from __future__ import annotations

import numpy as np
import pandas as pd


def reviews(rows: int = 300, seed: int = 0) -> pd.DataFrame:
    """Gold, two columns of answers, failures, a slice, and an index that repeats."""
    rng = np.random.default_rng(seed)
    gold = rng.choice(["neg", "neutral", "pos"], rows)
    answers = np.where(rng.random(rows) < 0.7, gold, rng.choice(["neg", "neutral", "pos"], rows)).astype(
        object
    )
    codes = np.full(rows, None, dtype=object)
    failed = rng.random(rows) < 0.1
    answers[failed] = None
    codes[failed] = rng.choice(["length", "content_filter"], failed.sum())
    words = np.array(["good", "bad", "film", "ending", "Ünder"])
    return pd.DataFrame(
        {
            "text": [f"row {n} " + " ".join(rng.choice(words, 4)) for n in range(rows)],
            "gold": gold, "a": answers, "a_error": codes, "b": rng.permutation(gold),
            "lang": rng.choice(["de", "en"], rows), "tokens": rng.integers(1, 90, rows),
        },
        index=[f"r{n % 250}" for n in range(rows)],  # repeats
    )  # fmt: skip
