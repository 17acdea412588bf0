"""Which row is right: two columns in, one outcome a row out. How they are compared follows from the gold alone."""

from __future__ import annotations

import datetime
import functools
import hashlib
import importlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from dobatch_pandas.errors import InputError, Problem

from .groups import is_measured
from .texts import LIST_LIKE, as_text, composed, is_missing, literal, normalise, plain_value

__all__ = ["KINDS", "MATCHES", "OUTCOMES", "Kind", "Match", "Matcher", "Rules", "grade", "kind_of"]

Kind = Literal["labels", "numbers", "text", "dates", "times", "sets", "sequences", "fields"]
Match = Literal["exact", "normalised", "contains", "regex", "token_f1"]
Matcher = Callable[[Any, Any], Any]

KINDS: tuple[Kind, ...] = get_args(Kind)

#: What can become of a row, in the order to show.
OUTCOMES = ("correct", "wrong", "failed", "unlabelled")

_TRUE, _FALSE = ("true", "yes", "y", "t", "on", "1"), ("false", "no", "n", "f", "off", "0")


# ---- when a text is right --------------------------------------------------------------------------------------


def exact(predicted: str, actual: str) -> float:
    """1 where the texts are the same, character by character."""
    return float(predicted == actual)


def normalised(predicted: str, actual: str) -> float:
    """1 where the normalised texts are the same."""
    return float(predicted == actual or normalise(predicted) == normalise(actual))


def _pair(predicted: str, actual: str) -> tuple[str, str]:
    gold = normalise(actual)
    # Where the gold is an option's letter, a capital A in the answer is that option and no article.
    return normalise(predicted, options=gold == "a"), gold


def contains(predicted: str, actual: str) -> float:
    """1 where the normalised gold text stands in the normalised answer, as whole words."""
    ours, gold = _pair(predicted, actual)
    return float(f" {gold} " in f" {ours} ")


def regex(predicted: str, actual: str) -> float:
    """1 where the gold column's regular expression is found in the answer."""
    return float(re.search(actual, predicted) is not None)


def token_f1(predicted: str, actual: str) -> float:
    """F1 of the two bags of normalised words, as in the SQuAD evaluation script."""
    answer, truth = _pair(predicted, actual)
    ours, gold = answer.split(), truth.split()
    if not ours or not gold:
        return float(ours == gold)
    common = sum((Counter(ours) & Counter(gold)).values())
    return 2 * common / (len(ours) + len(gold))


MATCHES: dict[str, Callable[[str, str], float]] = {
    "exact": exact,
    "normalised": normalised,
    "contains": contains,
    "regex": regex,
    "token_f1": token_f1,
}


# ---- which kind ------------------------------------------------------------------------------------------------


def kind_of(actual: pd.Series[Any]) -> Kind:
    """Tell from the gold column alone what is compared, so that every run against it is graded alike."""
    dtype = actual.dtype
    if isinstance(dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(dtype):
        return "labels"
    if is_measured(dtype):
        return "numbers"
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return "dates"
    values = [value for value in actual.astype(object) if not is_missing(value)]
    if not values:
        return "text"
    for kind, types in _TYPES:
        if all(isinstance(value, types) for value in values):
            return kind
    texts = [as_text(value) for value in values]
    distinct = set(texts)
    if all(isinstance(value, str) for value in values):
        if _booleans_of(distinct):
            return "labels"
        written: tuple[tuple[str, Kind, tuple[type, ...]], ...]
        written = ("[(", "sets", LIST_LIKE), ("{", "fields", (dict,))
        for signs, kind, types in written:
            # Lists and dicts that went through a CSV file.
            if all(text.lstrip()[:1] in signs and isinstance(literal(text), types) for text in distinct):
                return kind
        if all(_NUMBER_TEXT.fullmatch(text) for text in distinct) and any("." in text for text in distinct):
            return "numbers"
        if all(_DATE_TEXT.search(text) for text in distinct) and all(
            _moment(text, True) is not None or _moment(text, False) is not None for text in distinct
        ):
            return "dates"
    if len(distinct) > 200 or max(map(len, distinct)) > 60:
        return "text"
    return "labels" if len(distinct) <= len(texts) / 2 else "text"


_TYPES: tuple[tuple[Kind, tuple[type, ...]], ...] = (
    ("labels", (bool, np.bool_)),
    ("times", (datetime.timedelta, np.timedelta64)),  # before numbers, of which NumPy's durations are some
    ("numbers", (int, float, Decimal, np.number)),
    ("dates", (datetime.date, np.datetime64)),
    ("times", (datetime.time,)),
    ("sets", LIST_LIKE),
    ("fields", (dict,)),
)
_NUMBER_TEXT = re.compile(r"[+-]?(?:0|[1-9]\d*)(?:\.\d+)?")


@dataclass(frozen=True)
class Rules:
    """How two values are compared; the same for every sample of a run."""

    kind: Kind
    match: str | None
    matcher: Matcher | None
    tolerance: float
    threshold: float
    fold: Callable[[str], str] | None

    @classmethod
    def of(
        cls,
        kind: Kind,
        match: Match | Matcher | None,
        tolerance: float | None,
        threshold: float | None,
        normalise_by: bool | Callable[[str], str],
    ) -> Rules:
        """Settle what was left open by the user."""
        fold = normalise_by if callable(normalise_by) else (normalise if normalise_by else None)
        name: str | None = None
        matcher: Matcher | None = None
        if kind == "text":
            match = match or "normalised"
            name = match if isinstance(match, str) else _name(match)
            matcher = MATCHES[match] if isinstance(match, str) else match
        if threshold is None:
            threshold = 1.0 if kind in ("sets", "sequences", "fields") else 0.5
        return cls(kind, name, matcher, float(tolerance or 0.0), float(threshold), fold)

    def described(self) -> dict[str, Any]:
        """Return every rule that decides what is right, to compare and to keep."""
        return {
            "kind": self.kind,
            "match": self.match if self.matcher is None or self.match in MATCHES else _identity(self.matcher),
            "tolerance": self.tolerance,
            "threshold": self.threshold,
            "normalise": None if self.fold is None else _identity(self.fold),
        }


def _name(function: Callable[..., Any]) -> str:
    name = str(getattr(function, "__name__", type(function).__name__))
    return "function" if name == "<lambda>" else name


def _identity(function: Callable[..., Any]) -> str:
    """A name that two functions share only where they do the same."""
    if function is normalise:
        return "normalise"
    parts: list[Any] = []
    if isinstance(function, functools.partial):
        parts += [function.args, sorted(function.keywords.items(), key=str)]
        function = function.func
    code = getattr(function, "__code__", None)
    if code is not None:
        parts += [_code(code), getattr(function, "__defaults__", None)]
        parts += [
            _identity(c) if callable(c) else c
            for c in map(_cell, getattr(function, "__closure__", None) or ())
        ]
    else:
        parts.append(repr(getattr(function, "__dict__", "")))
    return f"{_name(function)} {hash_of(parts)}"


def _code(code: Any) -> tuple[Any, ...]:
    constants = (
        _code(constant) if hasattr(constant, "co_code") else repr(constant) for constant in code.co_consts
    )
    return (code.co_code.hex(), code.co_names, *constants)


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # still empty
        return None


def hash_of(value: Any) -> str:
    """A short name for what something holds, the same in every process."""
    return hashlib.sha256(repr(value).encode("utf-8", "surrogatepass")).hexdigest()[:8]


# ---- every row -------------------------------------------------------------------------------------------------


def grade(
    rules: Rules, predicted: pd.Series[Any], actual: pd.Series[Any], error: pd.Series[Any] | None
) -> pd.DataFrame:
    """
    Return predicted, actual, correct, score, outcome and error code, row by row.

    A row with an error code or without an answer is ``failed``; codes of our own are ``missing``,
    ``not_a_number``, ``not_a_date``, ``not_a_time`` and ``not_a_list``. A row without gold is ``unlabelled``, whatever its answer.
    """
    actual = actual.set_axis(predicted.index)
    absent = np.fromiter(map(is_missing, predicted.astype(object)), dtype=bool, count=len(predicted))
    codes: list[Any] = [None] * len(predicted)
    if error is not None:
        codes = [None if is_missing(code) else as_text(code) for code in error.astype(object)]
    answers, gold, points_of = _values(rules, predicted, actual)
    unread = np.fromiter((value is None for value in answers), dtype=bool, count=len(answers))
    word = _UNREAD.get(rules.kind)
    for place in np.flatnonzero(unread):
        if codes[place] is None:
            codes[place] = "missing" if absent[place] or word is None else word
    labelled = np.fromiter((value is not None for value in gold), dtype=bool, count=len(gold))
    failed = np.fromiter((code is not None for code in codes), dtype=bool, count=len(codes))
    answered = labelled & ~failed
    points = np.full(len(predicted), np.nan)
    points[answered] = points_of(np.flatnonzero(answered))
    right = points >= rules.threshold - 1e-12
    outcome = np.select([~labelled, failed, right], ["unlabelled", "failed", "correct"], "wrong")
    shown = [None if fail else value for value, fail in zip(answers, failed, strict=True)]
    return pd.DataFrame(
        {
            "predicted": _column(shown, predicted.index, rules.kind),
            "actual": _column(gold, predicted.index, rules.kind),
            "correct": pd.Series(right, index=predicted.index, dtype="boolean").mask(~labelled),
            "score": points,
            "outcome": pd.Categorical(outcome, categories=list(OUTCOMES)),
            "error": pd.Series(codes, index=predicted.index, dtype="string"),
        },
        index=predicted.index,
    )


_UNREAD = {
    "numbers": "not_a_number",
    "dates": "not_a_date",
    "times": "not_a_time",
    "sets": "not_a_list",
    "sequences": "not_a_list",
}


_WIDE = 2**53  # from here on a float does not hold every whole number


def _wide(value: int | Decimal) -> bool:
    return not -_WIDE < value < _WIDE


def _column(values: list[Any], index: pd.Index[Any], kind: str) -> pd.Series[Any]:
    if kind == "numbers" and not any(isinstance(v, (int, Decimal)) and _wide(v) for v in values):
        return pd.Series([math.nan if v is None else float(v) for v in values], index=index, dtype=float)
    array = np.empty(len(values), dtype=object)  # what np.array makes of tuples would be a table
    for place, value in enumerate(values):
        array[place] = value
    return pd.Series(array, index=index, dtype=object)


Points = Callable[[np.ndarray[Any, Any]], "np.ndarray[Any, Any] | list[float]"]


def _values(
    rules: Rules, predicted: pd.Series[Any], actual: pd.Series[Any]
) -> tuple[list[Any], list[Any], Points]:
    """Both columns in one form, None where there is no value, and what gives the points of some rows."""
    if rules.kind == "numbers":
        answers, gold = _numbers(predicted), _numbers(actual)
        coarsest = max(_epsilon(predicted), _epsilon(actual))
        return answers, gold, lambda rows: _near(answers, gold, rows, rules.tolerance, 8 * coarsest)
    if rules.kind in ("dates", "times"):
        answers, gold = (_dates if rules.kind == "dates" else _times)(predicted, actual)
        return answers, gold, lambda rows: [float(answers[row] == gold[row]) for row in rows]
    if rules.kind in ("sets", "sequences"):
        answers, gold = (_lists(column, rules) for column in (predicted, actual))
        points = jaccard if rules.kind == "sets" else (lambda a, b: float(a == b))
        return answers, gold, lambda rows: [points(answers[row], gold[row]) for row in rows]
    if rules.kind == "labels":
        answers, gold = _labels(predicted, actual, rules.fold)
        return answers, gold, lambda rows: [float(answers[row] == gold[row]) for row in rows]
    matcher = rules.matcher
    assert matcher is not None
    if rules.match == "regex":
        _check_patterns(actual)
    if rules.match in MATCHES:
        answers, gold = _texts(predicted, rules.fold), _texts(actual, rules.fold)
    else:
        answers, gold = (
            [None if is_missing(value) else value for value in column.astype(object)]
            for column in (predicted, actual)
        )
    index = list(predicted.index)

    def points_of(rows: np.ndarray[Any, Any]) -> list[float]:
        found = []
        for row in rows:
            try:
                found.append(float(matcher(answers[row], gold[row])))
            except Exception as problem:
                raise InputError(
                    Problem(
                        f"match= failed on an answer: {type(problem).__name__}: {problem}. It must take any answer "
                        "and its gold, and return a number or a bool.",
                        (index[row],),
                        1,
                    )
                ) from problem
        return found

    return answers, gold, points_of


def _check_patterns(actual: pd.Series[Any]) -> None:
    bad = {}
    for label, pattern in actual.dropna().items():
        try:
            re.compile(str(pattern))
        except re.error as problem:
            bad[label] = problem
    if bad:
        raise InputError(
            Problem(
                f"match='regex' needs regular expressions in {actual.name!r} ({next(iter(bad.values()))}).",
                tuple(bad)[:10],
                len(bad),
            )
        )


# ---- numbers ---------------------------------------------------------------------------------------------------


def _numbers(column: pd.Series[Any]) -> list[Any]:
    """Python's own numbers, as exact as they were written; None for what is none."""
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind == "f":
        values = column.to_numpy(float)
        return [value if ok else None for value, ok in zip(values.tolist(), np.isfinite(values), strict=True)]
    return [_number(value) for value in column.astype(object)]


def _number(value: Any) -> int | float | Decimal | None:
    if isinstance(value, str):
        text = value.strip().replace("−", "-")
        amount = _AMOUNT.fullmatch(text)
        if amount is not None:
            text = amount.group(1) + amount.group(2).replace(",", "")
        if not _NUMERAL.fullmatch(text):
            return None
        value = int(text) if _WHOLE.fullmatch(text) else Decimal(text)
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, Decimal):
        return value if value.is_finite() and abs(value) < Decimal("1.7e308") else None
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Fraction):
        return float(value)
    return None


_NUMERAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
# $1,234.50: a currency's sign before or after, thousands set apart.
_AMOUNT = re.compile(r"([+-]?)(?:[$€£¥]\s?)?(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*|\.\d+)(?:\s?[$€£¥])?")
_WHOLE = re.compile(r"[+-]?\d{1,4000}")


def _epsilon(column: pd.Series[Any]) -> float:
    """The spacing of a column's floats: what is stored in 32 bits is not 0.1 to the 16th digit."""
    if pd.api.types.is_float_dtype(column.dtype):
        name = str(column.dtype).lower()
        for words, width in (("float32", np.float32), ("float[", np.float32), ("halffloat", np.float16)):
            if words in name:
                return float(np.finfo(width).eps)
        if "float16" in name:
            return float(np.finfo(np.float16).eps)
    return float(np.finfo(float).eps)


def _near(
    answers: list[Any], gold: list[Any], rows: np.ndarray[Any, Any], tolerance: float, relative: float
) -> np.ndarray[Any, Any]:
    """
    Which numbers are equal, or no further apart than the tolerance.

    Whole numbers and Decimals are compared exactly. Between floats that are no whole numbers a few units in
    the last place do not count: 0.1 + 0.2 is 0.3 here, as anyone with a gold column would say.
    """
    ours = np.array([float(answers[row]) for row in rows], dtype=float)
    truth = np.array([float(gold[row]) for row in rows], dtype=float)
    whole = (ours % 1 == 0) & (truth % 1 == 0)
    apart = np.abs(ours - truth)
    slack = np.where(whole & (tolerance % 1 == 0), 0.0, relative * np.maximum(np.abs(truth), tolerance))
    near = apart <= tolerance + slack
    allowed = Decimal(repr(tolerance))
    for place, row in enumerate(rows):
        a, b = answers[row], gold[row]
        exactly = not isinstance(a, float) and not isinstance(b, float)
        if (
            exactly and (isinstance(a, Decimal) or isinstance(b, Decimal) or max(abs(a), abs(b)) >= 2**53)
        ) or (whole[place] and max(abs(ours[place]), abs(truth[place])) >= 2**53):
            near[place] = abs(Fraction(a) - Fraction(b)) <= Fraction(allowed)
    return np.asarray(near, dtype=float)


# ---- dates -----------------------------------------------------------------------------------------------------

_MONTH = r"(?:jan|feb|m[aä]r|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])[a-zä]*\.?"
_DATE_TEXT = re.compile(
    rf"^\s*(?:\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}(?!\d)|\d{{1,2}}[-/.]\d{{1,2}}[-/.]\d{{4}}(?!\d)"
    rf"|(?=.*\b\d{{4}}\b)(?=.*\b\d{{1,2}}(?:st|nd|rd|th)?\b).*\b{_MONTH})",
    re.IGNORECASE,
)
_ISO = re.compile(r"\s*(\d{4})[-/.]?(\d{2})[-/.]?(\d{2})(?:[T ](.+))?\s*", re.IGNORECASE)
_NUMERIC = re.compile(r"\s*(\d{1,2})([-/.])(\d{1,2})\2(\d{4})(.*)", re.DOTALL)


def _day_first(texts: Iterable[Any]) -> bool | None:
    """Whether dates such as 03/04/2024 begin with the day; None where no text tells."""
    for text in texts:
        found = _NUMERIC.fullmatch(text) if isinstance(text, str) else None
        if found is not None and found.group(2) != ".":
            if int(found.group(1)) > 12:
                return True
            if int(found.group(3)) > 12:
                return False
    return None


def _moment(value: Any, day_first: bool) -> tuple[pd.Timestamp, bool] | None:
    """A moment, and whether a time of day was given; None for what is no date."""
    if is_missing(value):
        return None
    try:
        if not isinstance(value, str):
            if isinstance(value, (datetime.date, np.datetime64)):
                moment = pd.Timestamp(value)
                return moment, isinstance(value, datetime.datetime) and moment != moment.normalize()
            return None
        numeric = _NUMERIC.fullmatch(value)
        if numeric is not None:
            first, sign, second, year, rest = numeric.groups()
            day, month = (first, second) if sign == "." or day_first else (second, first)
            value = f"{year}-{int(month):02}-{int(day):02}{rest}"
        iso = _ISO.fullmatch(value)
        if iso is not None:
            year, month, day, time = iso.groups()
            text = f"{year}-{month}-{day}" + (f"T{time.strip()}" if time else "")
            return pd.Timestamp(text), bool(time)
        return _written_date(value)
    except (ValueError, OverflowError, TypeError):
        return None


def _written_date(text: str) -> tuple[pd.Timestamp, bool] | None:
    """``March 1st, 2024`` and the like; what lacks a day or a year is none."""
    parser = importlib.import_module("dateutil.parser")  # pandas itself needs it

    plain = re.sub(r"(?<=\d)(?:st|nd|rd|th)\b|\bof\b", " ", text, flags=re.IGNORECASE)
    found = [
        parser.parse(plain, default=datetime.datetime(year, month, day, hour))
        for year, month, day, hour in ((2000, 1, 1, 0), (2004, 5, 29, 7))
    ]
    if found[0].date() != found[1].date():
        return None
    timed = found[0] == found[1]
    return pd.Timestamp(found[0] if timed else found[0].date()), timed


def _dates(predicted: pd.Series[Any], actual: pd.Series[Any]) -> tuple[list[Any], list[Any]]:
    """Days as ISO texts, or moments where the gold has a time of day, both in the gold's own zone or in UTC."""
    columns = [list(column.astype(object)) for column in (predicted, actual)]
    first = _day_first(columns[1])
    first = _day_first(columns[0]) if first is None else first
    ours, truth = ([_moment(value, bool(first)) for value in column] for column in columns)
    timed = any(found is not None and found[1] for found in truth)
    aware = any(found is not None and found[0].tzinfo is not None for found in truth)

    def written(found: tuple[pd.Timestamp, bool] | None) -> str | None:
        if found is None:
            return None
        moment = found[0]
        if not timed:
            return str(moment.date().isoformat())
        if aware:
            moment = moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")
            return str(moment.isoformat()).replace("+00:00", "Z")
        return str(moment.tz_localize(None).isoformat() if moment.tzinfo is not None else moment.isoformat())

    return [written(found) for found in ours], [written(found) for found in truth]


# ---- times -----------------------------------------------------------------------------------------------------

_CLOCK = re.compile(
    r"(\d{1,2})(?:[:.h](\d{2}))?(?::(\d{2}))?\s*(?:([ap])\.?\s?m\.?|uhr|h|o['’]clock)?", re.IGNORECASE
)
# A clock that has run, as pandas, Python and people write it: 1 days 02:30:00, 2:30 and 2h30 (hours and minutes).
_RAN = re.compile(
    r"(?:(-?\d+)\s*d(?:ays?)?,?\s*)?([+-]?)(\d+)[:h]([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?", re.IGNORECASE
)
_SPAN = re.compile(
    r"(\d[\d.,]*|\.\d+)\s*(milliseconds?|ms|weeks?|wks?|w|days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)"
    r"(?![a-z])\.?(?:,\s|\s|and\s)*",
    re.IGNORECASE,
)
_MILLISECONDS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def _time_of_day(value: Any) -> str | None:
    """``14:30:00`` of a time, or of how people write one; None for what is none."""
    if isinstance(value, (datetime.timedelta, np.timedelta64)):  # as some databases give a time
        passed = pd.Timedelta(value)
        if not pd.Timedelta(0) <= passed < pd.Timedelta(days=1):
            return None
        value = (pd.Timestamp(0) + passed).time()
    if isinstance(value, datetime.time):
        return value.isoformat()
    if not isinstance(value, str):
        return None
    text = value.strip()
    found = _CLOCK.fullmatch(text)
    try:
        if found is None:
            return datetime.time.fromisoformat(text.removeprefix("T")).isoformat() if ":" in text else None
        hour, minute, second, half = found.groups()
        if text.isdigit() or (half and not 1 <= int(hour) <= 12):
            return None
        counted = int(hour) if half is None else int(hour) % 12 + 12 * (half in "pP")
        return datetime.time(counted, int(minute or 0), int(second or 0)).isoformat()
    except ValueError:
        return None


def _duration(value: Any) -> str | None:
    """How long, as pandas writes it; of texts also ``1:30`` (hours and minutes), ``90 min`` and ``PT1H30M``."""
    try:
        if isinstance(value, (datetime.timedelta, np.timedelta64)):
            found = pd.Timedelta(value)
        else:
            passed = _milliseconds(value.strip()) if isinstance(value, str) else None
            if passed is None:
                return None
            found = pd.Timedelta(round(passed * 10**6), unit="ns")
    except (ValueError, OverflowError):  # more than 292 years
        return None
    return None if is_missing(found) else str(found)


def _milliseconds(text: str) -> Fraction | None:
    ran = _RAN.fullmatch(text)
    if ran is not None:
        days, sign, hours, minutes, seconds = ran.groups()
        clock = int(hours) * 3_600_000 + int(minutes) * 60_000 + Fraction(seconds or 0) * 1_000
        return int(days or 0) * 86_400_000 + (-clock if sign == "-" else clock)
    if text[:1] in "Pp":  # ISO 8601, in which an M before the T is a month
        dated, _, timed = text[1:].partition("T")
        text = "" if "M" in dated.upper() else f"{dated} {timed}".strip()
    total, end = Fraction(0), 0
    while (piece := _SPAN.match(text, end)) is not None:
        amount, unit = _number(piece.group(1)), piece.group(2).lower()
        if amount is None:
            return None
        total += Fraction(amount) * _MILLISECONDS["ms" if unit.startswith(("ms", "milli")) else unit[0]]
        end = piece.end()
    return total if 0 < end == len(text) else None


def _times(predicted: pd.Series[Any], actual: pd.Series[Any]) -> tuple[list[Any], list[Any]]:
    """Times of day, or how long where the gold holds durations."""
    answers, gold = (list(column.astype(object)) for column in (predicted, actual))
    lasting = any(isinstance(value, (datetime.timedelta, np.timedelta64)) for value in gold)
    read = _duration if lasting else _time_of_day
    ours, truth = (
        [None if is_missing(value) else read(value) for value in column] for column in (answers, gold)
    )
    return ours, truth


# ---- lists -----------------------------------------------------------------------------------------------------


def jaccard(ours: tuple[Any, ...], gold: tuple[Any, ...]) -> float:
    """What two sets share, of all that either holds; 1 for two that are empty."""
    a, b = set(ours), set(gold)
    return len(a & b) / len(a | b) if a | b else 1.0


def _lists(column: pd.Series[Any], rules: Rules) -> list[Any]:
    """Tuples of elements; sets without repetition and in one order; None for what is no list."""
    fold = rules.fold
    found: list[Any] = []
    for value in column.astype(object):
        if isinstance(value, str):
            value = literal(value)
        if not isinstance(value, LIST_LIKE):
            found.append(None)
            continue
        texts = [composed(as_text(element)) for element in value]
        elements = texts if fold is None else [fold(text) for text in texts]
        ordered = rules.kind == "sequences" and not isinstance(value, (set, frozenset))
        found.append(tuple(elements if ordered else sorted(set(elements))))
    return found


# ---- labels and texts ------------------------------------------------------------------------------------------


def _texts(column: pd.Series[Any], fold: Callable[[str], str] | None) -> list[Any]:
    known: dict[str, str] = {}
    texts: list[Any] = []
    for value in column.astype(object):
        text = None if is_missing(value) else composed(as_text(value))
        if text is not None and fold is not None:
            if text not in known:
                known[text] = fold(text)
            text = known[text]
        texts.append(text)
    return texts


def _booleans_of(words: Iterable[str]) -> dict[bool, str]:
    """
    The word that a gold column has for true and for false, where it holds those and nothing else.

    One of the two alone has to be a word that means nothing else: ``y`` may be a class.
    """
    found: dict[bool, str] = {}
    for word in sorted(words, reverse=True):  # "yes" before "Yes"
        folded = word.strip().casefold()
        if folded in ("0", "1") or folded not in (*_TRUE, *_FALSE):
            return {}
        known = found.setdefault(folded in _TRUE, word)
        if known.strip().casefold() != folded:
            return {}
    alone = len(found) == 1 and next(iter(found.values())).strip().casefold() in (
        "true",
        "false",
        "yes",
        "no",
    )
    return found if len(found) == 2 or alone else {}


def _truth(value: Any) -> bool | None:
    """True or false in the usual words; None for anything else."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, float, np.number)) and value in (0, 1):
        return bool(value)
    word = value.strip().strip(".!").casefold() if isinstance(value, str) else ""
    return True if word in _TRUE else (False if word in _FALSE else None)


def _truth_or_text(value: Any) -> bool | str | None:
    known = _truth(value)
    return known if known is not None or value is None else as_text(value)


def _labels(
    predicted: pd.Series[Any], actual: pd.Series[Any], fold: Callable[[str], str] | None
) -> tuple[list[Any], list[Any]]:
    columns = [
        [None if is_missing(value) else value for value in column.astype(object)]
        for column in (predicted, actual)
    ]
    present = [value for value in columns[1] if value is not None]
    if present and all(isinstance(value, (bool, np.bool_)) for value in present):
        return (
            [_truth_or_text(value) for value in columns[0]],
            [None if value is None else bool(value) for value in columns[1]],
        )
    if fold is None:
        words = _booleans_of({value if isinstance(value, str) else "" for value in present})
        if words:
            # An answer of the other word where the gold has one only is that word, and wrong.
            spoken = {value: words.get(value, as_text(value).lower()) for value in (True, False)}
            answers, gold = ([_truth_or_text(value) for value in column] for column in columns)
            return (
                [spoken[value] if isinstance(value, bool) else value for value in answers],
                [spoken[value] if isinstance(value, bool) else value for value in gold],
            )
        both = [value for column in columns for value in column if value is not None]
        if both and all(_is_number(value) for value in both):
            answers, gold = ([None if v is None else plain_value(v) for v in column] for column in columns)
            return answers, gold
    return _texts(predicted, fold), _texts(actual, fold)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number, Decimal)) and not isinstance(value, (bool, np.bool_))
