"""The names and signatures that people type stay as they are, or this test says that an upgrade breaks their code."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pandas as pd
import pytest

import dobatch_pandas as dobatch

ASKED = (
    "prompt, *, model, into='response', system=None, endpoint=None, provider=None, schema=None, custom_id=None, "
    "missing='error', dedupe=True, samples=1, metadata=None, flatten=False"
)

SIGNATURES = {
    "configure": "token=..., base_url=..., home=..., display=..., allow_http=..., prices=..., account=..., "
    "on_end=..., on_end_key=..., store=...",
    "attach": "job_id",
    "jobs": "",
    "batches": "limit=100, status=None",
    "read_results": "*paths",
    "matrix": "series",
    "col": "name",
    "compare": (
        "a, b, *more, key=None, by=None, noise=None, metric=None, names=None, confidence=0.95, power=0.8, "
        "resamples=9999, seed=0, small=30"
    ),
    "evaluations": "",
    "submit_dataset": "source, "
    + ASKED.replace("model,", "model, output,")
    + ", fresh=False, display=None, max_cost=None, deadline=None, mode='batch', **body",
    "DobatchAccessor.plan": ASKED + ", **body",
    "DobatchAccessor.submit": ASKED
    + ", fresh=False, display=None, max_cost=None, deadline=None, mode='batch', **body",
    "DobatchAccessor.trial": ASKED.replace("model,", "model, n=5,") + ", max_cost=None, **body",
    "DobatchAccessor.join": "job, *, custom_id=None, into='response', wait=True",
    "DobatchAccessor.update": "job, *, custom_id=None, into='response', wait=True",
    "DobatchAccessor.score": "predicted, *, actual, **options",
    "DobatchAccessor.judge": (
        "question, criteria=None, *, model, into='judge', rubric=None, response='answer', reference=None, "
        "versus=None, scale=None, endpoint=None, provider=None, custom_id=None, missing='error', dedupe=True, "
        "samples=1, metadata=None, flatten=False, fresh=False, display=None, max_cost=None, deadline=None, mode='batch', **body"
    ),
    "DobatchAccessor.explore": "job=None, **options",
    "Plan.preview": "n=5",
    "Plan.estimate": "",
    "Plan.to_jsonl": "directory",
    "Plan.submit": "*, fresh=False, display=None, max_cost=None, deadline=None, mode='batch'",
    "Plan.join": "results",
    "Job.wait": "timeout=None, *, display=None",
    "Job.advance": "timeout=None",
    "Job.finish_by": "deadline",
    "Job.stream": "timeout=None",
    "Job.on_end": "on_end",
    "Job.cancel": "",
    "Job.retry": "codes=None",
    "Job.result": "*, wait=True",
    "Job.responses": "*, wait=True",
    "Job.errors": "*, wait=True",
    "Job.usage": "",
    "Job.forget": "",
    "Client": (
        "token=None, base_url=None, *, timeout=60.0, connect_timeout=10.0, retries=5, allow_http=False, "
        "backoff=0.5, budget=600.0"
    ),
    "Client.create_file": "file_name",
    "Client.upload": "url, path, *, content_type='application/octet-stream', on_progress=None",
    "Client.create_batch": "file_id, *, provider, endpoint=None, request_id, metadata=None",
    "Client.get_batch": "batch_id",
    "Client.list_batches": "*, limit=20, after=None, status=None",
    "Client.cancel_batch": "batch_id",
    "Client.get_results": "batch_id",
    "Client.download": "url, path, *, on_progress=None, refresh=None",
}


def _signature(name):
    target = dobatch
    for part in name.split("."):
        target = getattr(target, part)
    words = []
    parameters = [p for p in inspect.signature(target).parameters.values() if p.name != "self"]
    starred = False
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            starred = True
            words.append(f"*{parameter.name}")
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            words.append(f"**{parameter.name}")
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            words.append("*")
        default = parameter.default
        shown = "..." if default is not None and type(default) is object else repr(default)
        words.append(parameter.name if default is parameter.empty else f"{parameter.name}={shown}")
    return ", ".join(words)


@pytest.mark.parametrize("name", SIGNATURES)
def test_what_people_type_keeps_its_signature(name):
    """
    Notebooks of last year run with the version of this year.
    """
    assert _signature(name) == SIGNATURES[name]


def test_every_public_name_is_there_and_documented():
    """
    ``dobatch.<Tab>`` shows names that work and explain themselves.
    """
    expected = {
        "Client", "Comparison", "DobatchAccessor", "DobatchError", "Evaluation", "InputError", "Job", "LocalServer",
        "Plan", "Prices", "attach", "batches", "col", "compare", "configure", "datasets", "errors", "jobs",
        "load_ipython_extension", "matrix", "read_results", "submit_dataset",
    }  # fmt: skip
    assert set(dobatch.__all__) >= expected
    for name in dobatch.__all__:
        assert inspect.getdoc(getattr(dobatch, name)), name
    assert set(dobatch.__all__) <= set(dir(dobatch))


def test_jobs_have_the_words_of_the_documentation():
    """
    Properties are names that hold, too.
    """
    for owner, names in {
        dobatch.Job: ("status", "counts", "batches"),
        dobatch.Plan: ("custom_ids",),
        dobatch.LocalServer: ("url",),
    }.items():
        for name in names:
            assert isinstance(inspect.getattr_static(owner, name), property)
    assert hasattr(dobatch.Job, "__await__")
    assert hasattr(dobatch.LocalServer, "__enter__")


def test_every_exception_has_one_root():
    """
    ``except dobatch.DobatchError`` catches all of ours.
    """
    for name in dobatch.errors.__all__:
        found = getattr(dobatch.errors, name)
        if inspect.isclass(found) and issubclass(found, BaseException):
            assert issubclass(found, dobatch.DobatchError)


def test_the_accessor_does_nothing_until_it_is_used():
    """
    Tab-completion builds it on every frame, an empty one included.
    """
    assert "dobatch" in dir(pd.DataFrame())
    assert vars(pd.DataFrame({"a": [1]}).dobatch).keys() == {"_frame"}


def _modules():
    package = pkgutil.walk_packages(dobatch.__path__, "dobatch_pandas.")
    return [module.name for module in package if not module.name.endswith("__main__")]


def test_examples_in_docstrings_are_true():
    """
    What a docstring shows is what happens.
    """
    tried = 0
    for name in _modules():
        found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
        assert not found.failed, name
        tried += found.attempted
    assert tried > 0


@pytest.mark.parametrize("name", _modules())
def test_every_module_says_what_it_is_for(name):
    """
    The first line of a module is its one responsibility, and ``__all__`` what others may use.
    """
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", []):
        assert hasattr(module, public), public


def test_the_version_is_one():
    """
    What pip says and what the package says are the same.
    """
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{dobatch.__version__}"\n' in project
