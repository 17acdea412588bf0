"""
How often the intervals hold the truth, and how often runs of one quality are told apart.

Shares and paired differences are enumerated (every outcome with its probability), clusters and means simulated.

    python tests/evals/coverage_of_intervals.py          prints the tables
    python tests/evals/coverage_of_intervals.py --write  puts them into docs/evals.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import stats

from dobatch_pandas.evals.compare import _told
from dobatch_pandas.evals.significance import Paired, clustered_share, paired, share

DOCS = Path(__file__).parents[2] / "docs" / "evals.md"
BEGIN, END = "<!-- coverage: made by tests/evals/coverage_of_intervals.py -->", "<!-- end of coverage -->"

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
ROWS = (5, 10, 20, 30, 50, 100, 200, 500, 1000)
#: Shares of rows that only the second run, and only the first run, has right.
DIFFERING = ((0.02, 0.02), (0.05, 0.02), (0.05, 0.05), (0.1, 0.05), (0.2, 0.1), (0.3, 0.3), (0.4, 0.1))


def of_share(rows: int, truth: float) -> float:
    """Coverage of the accuracy's interval, exactly."""
    counts = np.arange(rows + 1)
    chance = stats.binom.pmf(counts, rows, truth)
    counts = counts[chance > 1e-9]
    held = [low <= truth <= high for _, low, high in (share(count, rows, 0.95) for count in counts)]
    return float(np.sum(chance[chance > 1e-9] * held))


def of_difference(rows: int, win: float, loss: float) -> tuple[float, float]:
    """Coverage of the paired interval, and how often the runs are told apart, exactly."""
    held = told = total = 0.0
    for wins, losses, chance in outcomes(rows, win, loss):
        # McNemar's exact p, which tests hold against statsmodels; a hundred times as quick as calling it.
        p = min(1.0, 2 * stats.binom.cdf(min(wins, losses), wins + losses, 0.5)) if wins + losses else 1.0
        found = Paired((wins - losses) / rows, p, "McNemar", rows, None, wins, losses, float("nan"))
        line = _told([found], "accuracy", 0.05, float("nan"))[0][0]
        held += chance * (line["difference_low"] - 1e-9 <= win - loss <= line["difference_high"] + 1e-9)
        total += chance
        told += chance * (line["verdict"] != "not told")
    return held / total, told / total


def outcomes(rows: int, win: float, loss: float) -> Iterator[tuple[int, int, float]]:
    """Every pair of wins and losses that matters, with its probability."""
    for wins in range(int(stats.binom.ppf(2e-4, rows, win)), int(stats.binom.ppf(1 - 2e-4, rows, win)) + 1):
        rest = rows - wins
        chance = stats.binom.pmf(wins, rows, win)
        share_of_rest = loss / (1 - win)
        bounds = (int(stats.binom.ppf(end, rest, share_of_rest)) for end in (2e-4, 1 - 2e-4))
        low, high = bounds
        for losses in range(low, high + 1):
            both = chance * stats.binom.pmf(losses, rest, share_of_rest)
            if both > 1e-6:
                yield wins, losses, float(both)


def of_clusters(clusters: int, truth: float, alike: float, times: int, seed: int = 0) -> float:
    """Coverage of the accuracy's interval where rows come in clusters of ten."""
    rng = np.random.default_rng(seed)
    spread = 1 / alike - 1
    codes = np.repeat(np.arange(clusters), 10)
    held = 0
    for _ in range(times):
        level = rng.beta(truth * spread, (1 - truth) * spread, clusters)
        values = (rng.random((clusters, 10)) < level[:, None]).ravel().astype(float)
        _, low, high = clustered_share(values, codes, 0.95)
        held += low <= truth <= high
    return held / times


def false_alarms(
    draw: Callable[[np.random.Generator, int], np.ndarray], rows: int, times: int, runs: int = 1
) -> float:
    """How often one of several runs is told apart from the first, where all are of one quality."""
    rng = np.random.default_rng(rows)
    alarms = 0
    for _ in range(times):
        first = draw(rng, rows)
        tested = [paired(first, draw(rng, rows), resamples=499) for _ in range(runs)]
        alarms += any(line["verdict"] != "not told" for line in _told(tested, "mae", 0.05, float("nan"))[0])
    return alarms / times


def clustered_alarms(clusters: int, times: int) -> float:
    """The same, where ten rows of a document share how hard it is for each of two equal runs."""
    rng = np.random.default_rng(clusters)
    codes = np.repeat(np.arange(clusters), 10)
    alarms = 0
    for _ in range(times):
        runs = [
            (rng.random((clusters, 10)) < rng.beta(1.4, 0.6, clusters)[:, None]).ravel().astype(float)
            for _ in "ab"
        ]
        alarms += (
            _told([paired(*runs, codes=codes, resamples=499)], "accuracy", 0.05, float("nan"))[0][0][
                "verdict"
            ]
            != "not told"
        )
    return alarms / times


DRAWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "errors, normal": lambda rng, rows: np.abs(rng.normal(0, 1, rows)),
    "errors, heavy tails": lambda rng, rows: np.exp(rng.normal(0, 1.5, rows)),
    "scores, mostly 0 or 1": lambda rng, rows: np.round(rng.beta(0.3, 0.2, rows), 1),
}


def tables(times: int = 1_000) -> str:
    """All tables as Markdown."""
    shares = table(
        "rows",
        [f"{p:g}" for p in SHARES],
        [(f"{n:,}", [f"{of_share(n, p):.1%}" for p in SHARES]) for n in ROWS],
    )
    differing = [n for n in ROWS if n in (10, 20, 50, 100, 200, 500)]
    found = {(n, pair): of_difference(n, *pair) for n in differing for pair in DIFFERING}
    heads = [f"+{win:.0%} −{loss:.0%}" for win, loss in DIFFERING]
    pairs = table(
        "rows", heads, [(f"{n:,}", [f"{found[n, pair][0]:.1%}" for pair in DIFFERING]) for n in differing]
    )
    equal = [pair for pair in DIFFERING if pair[0] == pair[1]]
    lines = [
        (
            f"accuracy, {win:.0%} win and {win:.0%} lose",
            [f"{found[n, (win, loss)][1]:.1%}" for n in (10, 20, 50, 100, 500)],
        )
        for win, loss in equal
    ]
    for name, draw in DRAWS.items():
        lines.append((name, [f"{false_alarms(draw, n, times):.1%}" for n in (10, 20, 50, 100, 500)]))
    lines.append(
        (
            "nine runs, any of eight (Holm)",
            [
                f"{false_alarms(DRAWS['errors, normal'], n, times // 4, 8):.1%}"
                for n in (10, 20, 50, 100, 500)
            ],
        )
    )
    lines.append(
        (
            "accuracy, rows in documents of ten",
            ["–", "–", *(f"{clustered_alarms(n // 10, times):.1%}" for n in (50, 100, 500))],
        )
    )
    lines[-1] = (lines[-1][0], ["–", "–", "0.0%", *lines[-1][1][3:]])  # five clusters: never a verdict
    alarms = table("equal runs", ["10 rows", "20", "50", "100", "500"], lines)
    levels = (0.02, 0.05, 0.2, 0.5, 0.8, 0.95, 0.98)
    clusters = table(
        "rows in clusters of ten, ICC",
        [f"{p:g}" for p in levels],
        [
            (f"{10 * n:,}, {alike:g}", [f"{of_clusters(n, p, alike, times):.1%}" for p in levels])
            for alike in (0.1, 0.3)
            for n in (5, 10, 20, 50, 100)
        ],
    )
    return "\n\n".join(
        [
            "**The accuracy's 95 % interval**, exactly, by rows and the true accuracy:", shares,
            "**The 95 % interval of a paired difference**, exactly, by rows and the shares of rows won and lost. Between equal "
            "runs it holds 0 wherever the exact test does not tell them apart, so it covers more there:", pairs,
            f"**Rows in clusters**, of {times:,} simulations each. Where the rarer outcome is in few clusters, the interval is wide on purpose:", clusters,
            "**False alarms**: how often runs of one quality are told apart, at most 5 % by promise (simulated cells: give or take a point):", alarms,
        ]
    )  # fmt: skip


def table(corner: str, head: list[str], lines: list[tuple[str, list[str]]]) -> str:
    rule = "|---" + "|--:" * len(head) + "|"
    return "\n".join(
        [
            f"| {corner} | {' | '.join(head)} |",
            rule,
            *(f"| {name} | {' | '.join(cells)} |" for name, cells in lines),
        ]
    )


if __name__ == "__main__":
    text = tables()
    print(text)
    if "--write" in sys.argv:
        page = DOCS.read_text(encoding="utf-8")
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        DOCS.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
