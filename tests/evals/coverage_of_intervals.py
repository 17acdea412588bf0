"""
How often the intervals hold the truth, and how often runs of one quality are told apart.

Shares and paired differences are enumerated (every outcome with its probability), clusters and means simulated,
each cell from a seed of its own. It takes some six minutes of one core.

    python tests/evals/coverage_of_intervals.py          prints the tables
    python tests/evals/coverage_of_intervals.py --write  puts them into docs/evals.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

from dobatch_pandas.evals.compare import _told
from dobatch_pandas.evals.significance import Paired, clustered_share, mean_interval, paired, share

DOCS = Path(__file__).parents[2] / "docs" / "evals.md"
BEGIN, END = "<!-- coverage: made by tests/evals/coverage_of_intervals.py -->", "<!-- end of coverage -->"

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
ROWS = (5, 10, 20, 30, 50, 100, 200, 500, 1000)
#: Shares of rows that only the second run, and only the first run, has right.
DIFFERING = (
    *((0.01, 0.0), (0.02, 0.01), (0.05, 0.0), (0.05, 0.02), (0.1, 0.05), (0.2, 0.1), (0.4, 0.1), (0.7, 0.05)),
    *((0.01, 0.01), (0.02, 0.02), (0.05, 0.05), (0.1, 0.1), (0.3, 0.3)),
)
CLUSTERS, ALIKE, TIMES = (5, 10, 20, 50, 100), (0.1, 0.3), 2_000
LEVELS = (0.02, 0.05, 0.2, 0.5, 0.8, 0.95, 0.98)
#: True accuracies of two runs, whose rows are in clusters.
BOTH = (
    (0.01, 0.05),
    (0.02, 0.05),
    (0.01, 0.1),
    (0.3, 0.7),
    (0.7, 0.8),
    (0.9, 0.95),
    (0.5, 0.5),
    (0.95, 0.95),
)


def of_share(rows: int, truth: float) -> float:
    """Coverage of the accuracy's interval, exactly."""
    counts = np.arange(rows + 1)
    chance = stats.binom.pmf(counts, rows, truth)
    counts = counts[chance > 1e-9]
    held = [low <= truth <= high for _, low, high in (share(count, rows, 0.95) for count in counts)]
    return float(np.sum(chance[chance > 1e-9] * held))


def settled(found: Paired, truth: float, metric: str = "accuracy") -> tuple[bool, bool]:
    """Whether the interval that a comparison shows holds the truth, and whether it gives a verdict."""
    line = _told([found], metric, 0.05, float("nan"))[0][0]
    held = line["difference_low"] - 1e-9 <= truth <= line["difference_high"] + 1e-9
    return bool(held), line["verdict"] != "not told"


def of_difference(rows: int, win: float, loss: float) -> tuple[float, float]:
    """Coverage of the paired interval, and how often the runs are told apart, exactly."""
    wins, losses, chances = outcomes(rows, win, loss)
    # McNemar's exact p, which tests hold against scipy; all at once is a hundred times as quick.
    tests = np.minimum(1.0, 2 * stats.binom.cdf(np.minimum(wins, losses), wins + losses, 0.5))
    sums = np.zeros(2)
    for won, lost, chance, p in zip(wins.tolist(), losses.tolist(), chances, tests, strict=True):
        found = Paired((won - lost) / rows, p, "McNemar", rows, None, won, lost, float("nan"))
        sums += chance * np.array(settled(found, win - loss))
    return float(sums[0] / chances.sum()), float(sums[1] / chances.sum())


def outcomes(rows: int, win: float, loss: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of wins and losses that matters, with its probability."""
    wins, losses = np.meshgrid(*(_likely(rows, share) for share in (win, loss)), indexing="ij")
    chance = stats.binom.pmf(wins, rows, win) * stats.binom.pmf(losses, rows - wins, loss / (1 - win))
    there = (wins + losses <= rows) & (chance > 1e-9)
    return wins[there], losses[there], chance[there]


def _likely(rows: int, share: float) -> np.ndarray:
    return np.arange(stats.binom.ppf(1e-5, rows, share), stats.binom.ppf(1 - 1e-5, rows, share) + 1).astype(
        int
    )


def _in_clusters(rng: np.random.Generator, clusters: int, truth: float, alike: float) -> np.ndarray:
    """Zeros and ones, ten a cluster, whose chance in a cluster is a beta's: ``alike`` is the ICC."""
    spread = 1 / alike - 1
    level = rng.beta(truth * spread, (1 - truth) * spread, clusters)
    return (rng.random((clusters, 10)) < level[:, None]).ravel().astype(float)


def of_clusters(clusters: int, truth: float, alike: float, times: int) -> float:
    """Coverage of the accuracy's interval where rows come in clusters of ten."""
    rng = np.random.default_rng([clusters, int(100 * truth), int(100 * alike)])
    codes = np.repeat(np.arange(clusters), 10)
    held = 0
    for _ in range(times):
        _, low, high = clustered_share(_in_clusters(rng, clusters, truth, alike), codes, 0.95)
        held += low <= truth <= high
    return held / times


def of_clustered_difference(
    clusters: int, first: float, second: float, alike: float, times: int
) -> tuple[float, float]:
    """Coverage of the paired interval in clusters, and how often the runs are told apart."""
    rng = np.random.default_rng([clusters, int(100 * first), int(100 * second), int(100 * alike)])
    codes = np.repeat(np.arange(clusters), 10)
    sums = np.zeros(2)
    for time in range(times):
        runs = [_in_clusters(rng, clusters, truth, alike) for truth in (first, second)]
        # A seed of its own each time: with one set of sign flips for all, its luck would be every cell's.
        sums += settled(paired(*runs, codes=codes, resamples=199, seed=time), second - first)
    return float(sums[0] / times), float(sums[1] / times)


Draw = Callable[[np.random.Generator, int], np.ndarray]

#: Sizes of errors, and their true mean.
ERRORS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, rows: np.abs(rng.normal(0, 1, rows)), float(np.sqrt(2 / np.pi))),
    "uniform": (lambda rng, rows: rng.uniform(0, 1, rows), 0.5),
    "exponential": (lambda rng, rows: rng.exponential(1, rows), 1.0),
    "half of rows exact": (lambda rng, rows: (rng.random(rows) < 0.5) * rng.exponential(1, rows), 0.5),
}

Both = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def _scores(first: tuple[float, float], second: tuple[float, float]) -> tuple[Both, float]:
    """Scores from 0 to 1 of two runs, each a beta's."""

    def draw(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.beta(*first, rows), rng.beta(*second, rows)

    return draw, second[0] / sum(second) - first[0] / sum(first)


def _samples(first: float, second: float, clustered: bool = False) -> tuple[Both, float]:
    """Shares of five samples that are right, on rows (and clusters of ten rows) that are hard or easy for both."""

    def draw(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
        hard = np.repeat(rng.random(rows // 10), 10) if clustered else rng.random(rows)
        runs = []
        for truth in (first, second):
            level = stats.beta.ppf(hard, truth / 0.3 * 0.7, (1 - truth) / 0.3 * 0.7)
            if clustered:  # the rows of a cluster are alike, not the same
                level = np.clip(level, 1e-9, 1 - 1e-9)
                level = rng.beta(level / 0.3 * 0.7, (1 - level) / 0.3 * 0.7)
            runs.append(rng.binomial(5, level) / 5)
        return runs[0], runs[1]

    return draw, second - first


def _errors(first: float, second: float, clustered: bool = False) -> tuple[Both, float]:
    """Exponential errors of two runs, large where a row (or its cluster) is hard for both."""

    def draw(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
        hard = rng.uniform(0.5, 1.5, rows // 10 if clustered else rows)
        hard = np.repeat(hard, 10) if clustered else hard
        return hard * rng.exponential(first, rows), hard * rng.exponential(second, rows)

    return draw, second - first


def _mostly_exact(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    off = rng.random((2, rows)) < [[0.3], [0.1]]
    return off[0] * rng.exponential(1, rows), off[1] * rng.exponential(1, rows)


#: Two runs, and the true difference of their means.
PAIRED_MEANS: dict[str, tuple[Both, float]] = {
    "errors, halved": _errors(2, 1),
    "errors, 10% less": _errors(1, 0.9),
    "30% and 10% off": (_mostly_exact, -0.2),
    "scores": _scores((4, 2), (3, 2)),
    "scores, mostly 0 or 1": _scores((0.3, 0.2), (0.2, 0.3)),
    "5 samples, 0.7, 0.8": _samples(0.7, 0.8),
    "5 samples, 0.02, 0.05": _samples(0.02, 0.05),
    "5 samples, 0.5, 0.5": _samples(0.5, 0.5),
}
CLUSTERED_MEANS: dict[str, tuple[Both, float]] = {
    "errors, halved": _errors(2, 1, clustered=True),
    "errors, 10% less": _errors(1, 0.9, clustered=True),
    "5 samples, 0.7, 0.8": _samples(0.7, 0.8, clustered=True),
    "5 samples, 0.95, 0.98": _samples(0.95, 0.98, clustered=True),
    "5 samples, 0.02, 0.05": _samples(0.02, 0.05, clustered=True),
    "5 samples, 0.5, 0.5": _samples(0.5, 0.5, clustered=True),
}


def of_mean(rows: int, name: str, times: int) -> float:
    """Coverage of the interval of one run's mean error."""
    draw, truth = ERRORS[name]
    rng, held = np.random.default_rng([rows, list(ERRORS).index(name)]), 0
    for _ in range(times):
        _, low, high = mean_interval(draw(rng, rows), 0.95)
        held += not (low > truth or high < truth)  # where no end can be told, none is claimed
    return held / times


def of_paired_mean(rows: int, name: str, times: int, clustered: bool = False) -> tuple[float, float]:
    """Coverage of the paired interval of means, and how often the runs are told apart."""
    which = CLUSTERED_MEANS if clustered else PAIRED_MEANS
    draw, truth = which[name]
    rng = np.random.default_rng([rows, list(which).index(name), int(clustered)])
    codes = np.repeat(np.arange(rows // 10), 10) if clustered else None
    sums = np.zeros(2)
    for time in range(times):
        sums += settled(paired(*draw(rng, rows), codes=codes, resamples=199, seed=time), truth, "score")
    return float(sums[0] / times), float(sums[1] / times)


def false_alarms(draw: Draw, rows: int, times: int, runs: int = 1) -> float:
    """How often one of several runs is told apart from the first, where all are of one quality."""
    rng = np.random.default_rng(rows)
    alarms = 0
    for time in range(times):
        first = draw(rng, rows)
        tested = [paired(first, draw(rng, rows), resamples=499, seed=time) for _ in range(runs)]
        alarms += any(line["verdict"] != "not told" for line in _told(tested, "mae", 0.05, float("nan"))[0])
    return alarms / times


DRAWS: dict[str, Draw] = {
    "errors, normal": lambda rng, rows: np.abs(rng.normal(0, 1, rows)),
    "errors, heavy tails": lambda rng, rows: np.exp(rng.normal(0, 1.5, rows)),
    "scores, mostly 0 or 1": lambda rng, rows: np.round(rng.beta(0.3, 0.2, rows), 1),
}


def noise(share: float, times: int) -> float:
    """The standard error of a simulated share, in points."""
    return 100 * float(np.sqrt(share * (1 - share) / times))


def tables(times: int = TIMES) -> str:
    """All tables as Markdown."""
    shares = table(
        "rows",
        [f"{p:g}" for p in SHARES],
        [(f"{n:,}", [f"{of_share(n, p):.1%}" for p in SHARES]) for n in ROWS],
    )
    found = {(n, pair): of_difference(n, *pair) for n in ROWS for pair in DIFFERING}
    unequal = [pair for pair in DIFFERING if pair[0] != pair[1]]
    equal = [pair for pair in DIFFERING if pair[0] == pair[1]]
    pairs, same = (
        table(
            "rows",
            [f"+{win:.0%} −{loss:.0%}" for win, loss in those],
            [(f"{n:,}", [f"{found[n, pair][0]:.1%}" for pair in those]) for n in ROWS],
        )
        for those in (unequal, equal)
    )
    clusters = table(
        "rows, ICC",
        [f"{p:g}" for p in LEVELS],
        [
            (f"{10 * n:,}, {alike:g}", [f"{of_clusters(n, p, alike, times):.1%}" for p in LEVELS])
            for alike in ALIKE
            for n in CLUSTERS
        ],
    )
    both = {
        (n, alike, pair): of_clustered_difference(n, *pair, alike, times)
        for alike in ALIKE
        for n in CLUSTERS
        for pair in BOTH
    }
    paired_clusters = table(
        "rows, ICC",
        [f"{first:g}, {second:g}" for first, second in BOTH],
        [
            (f"{10 * n:,}, {alike:g}", [f"{both[n, alike, pair][0]:.1%}" for pair in BOTH])
            for alike in ALIKE
            for n in CLUSTERS
        ],
    )
    errors = table(
        "rows",
        list(ERRORS),
        [(f"{n:,}", [f"{of_mean(n, name, times):.1%}" for name in ERRORS]) for n in ROWS],
    )
    paired_means = {(n, name): of_paired_mean(n, name, times) for n in ROWS for name in PAIRED_MEANS}
    means = table(
        "rows",
        list(PAIRED_MEANS),
        [(f"{n:,}", [f"{paired_means[n, name][0]:.1%}" for name in PAIRED_MEANS]) for n in ROWS],
    )
    in_clusters = {
        (n, name): of_paired_mean(10 * n, name, times, clustered=True)
        for n in CLUSTERS
        for name in CLUSTERED_MEANS
    }
    clustered_means = table(
        "rows",
        list(CLUSTERED_MEANS),
        [(f"{10 * n:,}", [f"{in_clusters[n, name][0]:.1%}" for name in CLUSTERED_MEANS]) for n in CLUSTERS],
    )
    few = (10, 20, 50, 100, 500)
    lines = [
        (f"accuracy, {win:.0%} win and {win:.0%} lose", [f"{found[n, (win, win)][1]:.1%}" for n in few])
        for win, _ in equal
    ]
    lines += [(name, [f"{false_alarms(draw, n, times):.1%}" for n in few]) for name, draw in DRAWS.items()]
    many = [f"{false_alarms(DRAWS['errors, normal'], n, times // 4, 8):.1%}" for n in few]
    lines.append(("nine runs, any of eight (Holm)", many))
    for alike in ALIKE:
        for pair in BOTH[-2:]:
            cells = [f"{both[n, alike, pair][1]:.1%}" for n in (5, 10, 50)]
            lines.append((f"accuracy {pair[0]:g}, clusters of ten, ICC {alike:g}", ["–", "–", *cells]))
    equals = "5 samples, 0.5, 0.5"
    lines.append(("accuracy 0.5 of five samples", [f"{paired_means[n, equals][1]:.1%}" for n in few]))
    cells = [f"{in_clusters[n, equals][1]:.1%}" for n in (5, 10, 50)]
    lines.append(("accuracy 0.5 of five samples, clusters of ten", ["–", "–", *cells]))
    alarms = table("equal runs", [f"{n} rows" for n in few], lines)
    return "\n\n".join(
        [
            "**The accuracy's 95 % interval**, exactly, by rows and the true accuracy:", shares,
            "**The 95 % interval of a paired difference**, exactly, by rows and the shares of rows won and lost:", pairs,
            "**The same between equal runs**, where it also holds 0 wherever the exact test does not tell them apart:", same,
            f"**Rows in clusters of ten**, by rows, how alike they are and the true accuracy; {times:,} simulations a cell, "
            f"standard error {noise(0.95, times):.1f} points:", clusters,
            f"**A paired difference in clusters of ten**, by both true accuracies; {times:,} simulations a cell, "
            f"standard error {noise(0.95, times):.1f} points:", paired_clusters,
            f"**A mean error's 95 % interval** (MAE), by rows and how errors are spread; {times:,} simulations a cell:", errors,
            "**The 95 % interval of a paired difference of means**: MAE, scores, and accuracies of five samples, by both true "
            f"values; {times:,} simulations a cell:", means,
            f"**The same in clusters of ten**; {times:,} simulations a cell:", clustered_means,
            "**False alarms**: how often runs of one quality are told apart. Accuracies without clusters exactly; the others of "
            f"{times:,} simulations a cell, standard error {noise(0.05, times):.1f} points (nine runs: {times // 4:,}, "
            f"{noise(0.05, times // 4):.1f} points):", alarms,
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
