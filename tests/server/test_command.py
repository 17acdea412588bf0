"""The options of `dobatch serve`."""

from __future__ import annotations

import argparse

import pytest

from dobatch_pandas.server import command


def _parse(*argv):
    parser = argparse.ArgumentParser(exit_on_error=False)
    command.add_arguments(parser)
    return parser.parse_args(argv)


def test_options_have_the_services_defaults():
    """
    Without any option: the echo model, wire A, the documented limits.
    """
    args = _parse()
    assert (args.model, args.wire, args.rate_limit, args.home) == ("echo", "A", (250, 5000), None)


def test_faults_are_written_in_a_line():
    """
    An operation and its settings; the same words as in `Faults.add`.
    """
    args = _parse("--fault", "create_batch:status=503,times=2", "--fault", "*:drop=after,times=none")
    assert args.fault == [
        ("create_batch", {"status": 503, "times": 2}),
        ("*", {"drop": "after", "times": None}),
    ]


@pytest.mark.parametrize(
    "argv",
    [
        ["--fault", "create_batches:status=503"],
        ["--fault", "create_batch:statuss=503"],
        ["--fault", "create_batch:status=x"],
        ["--fail-kinds", "sulking"],
        ["--rate-limit", "many"],
        ["--wire", "C"],
    ],
)
def test_a_wrong_option_is_refused(argv):
    """
    Before anything starts.
    """
    with pytest.raises(argparse.ArgumentError):
        _parse(*argv)


def test_rate_limits_can_be_switched_off():
    """
    `none`, or two numbers.
    """
    assert _parse("--rate-limit", "none").rate_limit is None
    assert _parse("--rate-limit", "5,10").rate_limit == (5, 10)


def test_a_problem_is_one_line_on_stderr(capsys):
    """
    No traceback for a model that does not exist.
    """
    assert command.serve(["--model", "gpt-9", "--port", "0"]) == 1
    assert "gpt-9" in capsys.readouterr().err
