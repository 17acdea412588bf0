"""Looking at the server and changing it over HTTP; its page, its description, its log, its fixture."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import requests
from server.driver import CHAT, EMBEDDINGS, MESSAGES, RESPONSES, Api, chat_lines, message_line
from server.remote import Remote
from waiting import eventually

pytest_plugins = ["pytester"]
TURNS = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("path", ["/", "/docs", "/health", "/openapi.json"])
def test_what_holds_nothing_of_anybodys_needs_no_token(serve, path):
    """
    The page asks for the token itself.
    """
    api = serve(token="secret")
    answer = requests.get(api.url + path, timeout=120)
    assert answer.status_code == 200
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "state"), ("GET", "faults"), ("POST", "faults"), ("DELETE", "faults"), ("GET", "clock"),
     ("POST", "clock"), ("POST", "hold"), ("POST", "release"), ("POST", "reset")],
)  # fmt: skip
def test_everything_else_needs_the_token(serve, method, path):
    """
    401 without it, and nothing is changed.
    """
    api = serve(token="secret")
    api.server.faults.add("download", status=503)
    assert api.call(method, f"/_dobatch/{path}", headers={}, json={"advance": 99999}).status_code == 401
    assert len(api.server.faults.pending()[0]) == 1


def test_faults_are_made_over_http(api):
    """
    The same as in Python: calls, shares and latencies, spoilt lines; and cleared.
    """
    made = api.call("POST", "/_dobatch/faults", json={"operation": "list_batches", "status": 503, "times": 2})
    assert made.json()["calls"][0]["status"] == 503
    assert [api.call("GET", "/v1/batches").status_code for _ in range(3)] == [503, 503, 200]
    api.call("POST", "/_dobatch/faults", json={"fail_share": 1, "latency": 0.001, "spoil": {"doubled": 1}})
    assert api.server.faults.fail_share == 1
    batch = api.until(api.create(chat_lines(3)), "completed")
    assert batch["request_counts"]["failed"] > 0
    assert api.call("DELETE", "/_dobatch/faults").json()["fail_share"] == 0
    assert api.call("GET", "/_dobatch/faults").json()["calls"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [("faults", {"operation": "nothing"}), ("faults", {}), ("faults", {"fail_share": 2}), ("faults", {"latency": "x"}),
     ("faults", {"operation": "upload", "status": 9}), ("faults", {"operation": "upload", "drop": "x"}),
     ("faults", {"operation": "upload", "bogus": 1}), ("faults", {"spoil": {"bogus": 1}}), ("faults", {"spoil": 1}),
     ("clock", {"advance": -1}), ("clock", {"advance": "x"}), ("clock", {}), ("hold", {"stage": "x"}),
     ("hold", {"after": -1})],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused(api, path, body):
    """
    422 with words, and the server goes on as before.
    """
    answer = api.call("POST", f"/_dobatch/{path}", json=body)
    assert answer.status_code == 422
    assert answer.json()["message"]
    assert api.call("GET", "/v1/batches").status_code == 200


def test_the_clock_and_the_stages_are_moved_over_http(api):
    """
    A batch is held, and expires a day later.
    """
    api.call("POST", "/_dobatch/hold", json={"stage": "in_progress", "after": 2})
    batch_id = api.create(chat_lines(5))
    api.until(batch_id, "in_progress")
    assert api.call("POST", "/_dobatch/clock", json={"advance": 25 * 3600}).json()["advanced"] == 25 * 3600
    api.until(batch_id, "expired")
    assert api.call("POST", "/_dobatch/release").json() == {"held": {}}


def test_a_reset_forgets_everything(api):
    """
    Batches, files, faults, time, calls; what is running for them is nobody's, and a new batch runs.
    """
    api.server.hold(after=3)
    first = api.create(chat_lines(10), request_id="once")
    api.until(first, "in_progress")
    api.server.faults.add("download", status=503)
    api.call("POST", "/_dobatch/clock", json={"advance": 3600})
    assert api.call("POST", "/_dobatch/reset").json() == {"status": "ok"}
    state = api.call("GET", "/_dobatch/state").json()
    assert (state["batches"], state["files"], state["held"], state["clock"]["advanced"]) == ([], [], {}, 0)
    assert api.call("GET", f"/v1/batches/{first}").status_code == 404
    again = api.create(chat_lines(10), request_id="once")
    assert api.until(again, "completed")["request_counts"]["completed"] == 10
    assert len(api.lines(again)[0]) == 10


def test_a_reset_in_the_middle_of_work_does_no_harm(serve):
    """
    Answers that come late for a batch that is gone are dropped.
    """
    import threading

    begun, go_on = threading.Event(), threading.Event()

    def model(body):
        begun.set()
        go_on.wait(120)
        return "x"

    api = serve(model)
    api.create(chat_lines(40))
    assert begun.wait(120)
    api.server.reset()
    go_on.set()
    batch_id = api.create(chat_lines(40))
    assert api.until(batch_id, "completed")["request_counts"]["completed"] == 40
    assert list(api.server._running().executor._folder.iterdir()) == []


def test_the_state_shows_what_there_is(api):
    """
    Batches with their counts, files, what is at the model, the last calls.
    """
    batch_id = api.create(chat_lines(3))
    api.until(batch_id, "completed")
    state = api.call("GET", "/_dobatch/state").json()
    assert state["batches"][0]["request_counts"]["completed"] == 3
    assert state["files"][0]["file_name"] == "input.jsonl"
    assert (state["model"], state["requests"]["most"], state["troubles"]) == ("echo", 1, [])
    assert "get_batch" in state["calls"]


def test_the_page_runs_only_its_own_script(api):
    """
    Nothing is loaded from elsewhere, and no other page may frame it.
    """
    for path in ("/", "/docs"):
        answer = requests.get(api.url + path, timeout=120)
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert not re.findall(r"(?:src|href)\s*=\s*[\"']?https?:", answer.text)


# The description.


@pytest.mark.parametrize("wire", ["A", "B"])
def test_the_description_holds_every_route(serve, wire):
    """
    Made from the routes, so none is missing; every answer that is seen fits it.
    """
    api = serve(wire=wire)
    described = api.call("GET", "/openapi.json").json()
    assert {"/v1/batches", "/v1/batches/{batch_id}/results", "/storage/inputs/{name}", CHAT, "/_dobatch/clock",
            "/openapi.json"} <= set(described["paths"])  # fmt: skip
    for methods in described["paths"].values():
        assert all(one["summary"] and one["responses"] for one in methods.values())

    def fits(answer, method, path):
        told = described["paths"][path][method]["responses"][str(answer.status_code)]
        schema = told["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator({**schema, "components": described["components"]}).validate(
            answer.json()
        )

    batch_id = api.create(chat_lines(3))
    api.until(batch_id, "completed")
    fits(api.call("GET", "/v1/batches"), "get", "/v1/batches")
    fits(api.call("GET", f"/v1/batches/{batch_id}"), "get", "/v1/batches/{batch_id}")
    fits(api.results(batch_id), "get", "/v1/batches/{batch_id}/results")
    fits(api.cancel(batch_id), "post", "/v1/batches/{batch_id}/cancel")
    fits(api.call("POST", "/v1/batches", json={}), "post", "/v1/batches")
    for path, body in ((CHAT, {"messages": TURNS}), (RESPONSES, {"input": "x"}), (EMBEDDINGS, {"input": "x"}),
                       (MESSAGES, {"max_tokens": 1, "messages": TURNS}), (CHAT, {})):  # fmt: skip
        fits(api.call("POST", path, json={"model": "m", **body}), "post", path)


# True to the service.


@pytest.mark.parametrize(
    ("method", "path", "has"),
    [("DELETE", "/v1/batches", "GET, HEAD, POST"), ("PATCH", "/v1/batches/x", "GET, HEAD"),
     ("GET", "/v1/batches/files/x", None), ("GET", CHAT, "POST"), ("POST", "/storage/inputs/x.jsonl", "PUT"),
     ("PUT", "/_dobatch/faults", "DELETE, GET, HEAD, POST"), ("POST", "/", "GET, HEAD")],
)  # fmt: skip
def test_a_method_that_a_path_does_not_have(api, method, path, has):
    """
    405 with what it has, or 404; never called the server's error.
    """
    answer = api.call(method, path)
    assert answer.status_code == (405 if has else 404)
    assert answer.headers.get("allow") == has
    assert answer.json()["id"] in ("bad_request", "not_found")


def test_every_answer_of_the_api_tells_the_limits(serve):
    """
    Refusals, real-time calls, unknown paths and faults included; of the hour, as documented.
    """
    api = serve(rate_limit=(250, 5000))
    api.server.faults.add("get_batch", status=503)
    for answer in (
        api.call("GET", "/v1/batches"),
        api.call("GET", "/v1/batches", headers={}),
        api.call("GET", "/v1/nothing"),
        api.call("DELETE", "/v1/batches"),
        api.call("GET", "/v1/batches/x"),
        api.call("POST", "/v1/batches", data=b"{"),
        api.call("POST", CHAT, json={"model": "m", "messages": TURNS}),
        api.call("POST", CHAT, json={"model": "m", "messages": TURNS, "stream": True}),
    ):
        assert answer.headers["ratelimit-limit"] == "5000", answer.text
        assert int(answer.headers["ratelimit-remaining"]) >= 4990


@pytest.mark.parametrize("status", [400, 409, 422])
def test_a_file_that_was_not_uploaded_is_refused_as_one_likes(serve, status):
    """
    The three answers that the HEAD check is known to have.
    """
    api = serve(not_uploaded=status)
    assert api.post_batch(api.intent()["file_id"]).status_code == status


@pytest.mark.parametrize("other", [{"endpoint": RESPONSES}, {"provider": "anthropic", "endpoint": None}])
def test_the_same_request_id_for_something_else_is_a_conflict(api, other):
    """
    It names what differs.
    """
    file_id = api.upload([message_line("a")])
    assert api.post_batch(file_id, request_id="once").status_code == 201
    fields = dict(other)
    answer = api.post_batch(file_id, fields.pop("provider", "openai"), request_id="once", **fields)
    assert answer.status_code == 409


def test_wire_b_lists_by_the_statuses_that_it_shows(serve):
    """
    Each batch under the one that it shows, page by page.
    """
    api = serve(wire="B")
    done = [api.create(chat_lines(1)) for _ in range(3)]
    for batch_id in done:
        api.until(batch_id, "completed")
    api.server.hold(after=2)
    moving = api.create(chat_lines(9))
    api.until(moving, "in_progress")
    waiting = [api.create(chat_lines(9)) for _ in range(3)]
    for batch_id in waiting:
        api.until(batch_id, "awaiting_processing")
    api.server.hold("validating")
    queued = api.create(chat_lines(1))

    def listed(status, limit=100):
        found, after = [], None
        while True:
            page = api.call(
                "GET", "/v1/batches", params={"status": status, "limit": limit, "after": after}
            ).json()
            found += [edge["node"]["batch_id"] for edge in page["edges"]]
            after = page["page_info"]["endCursor"]
            if not page["page_info"]["hasNextPage"]:
                return found[::-1]

    for limit in (1, 2, 100):
        assert listed("awaiting_processing", limit) == waiting
        assert listed("in_progress", limit) == [moving]
        assert listed("completed", limit) == done
        assert listed("queued", limit) == [queued]
        assert listed("expired", limit) == []


def test_an_empty_cursor_is_no_cursor(api):
    """
    400, where a client meant to give one.
    """
    assert api.call("GET", "/v1/batches?after=").status_code == 400


# Log and fixture.


def test_the_log_has_a_line_for_each_call_and_no_secret(tmp_path):
    """
    Method, path, status, bytes and time; never a signature or a token.
    """
    log = tmp_path / "log"
    with Remote(tmp_path / "home", "--log", str(log)) as remote:
        api = Api(remote)
        file = api.intent()
        api.put(file["upload_url"], b"{}\n")
        api.call("GET", "/v1/batches/x")
        # A call is written down once its answer is out, so the client may be quicker.
        eventually(lambda: len(log.read_text().splitlines()) == 3)
    lines = log.read_text().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d GET /v1/batches/x 404 \d+ bytes [\d.]+ ms", lines[2])
    assert "signature" not in log.read_text()
    assert remote.token not in log.read_text()


FIXTURE = """
    import os, pytest, requests

    def test_one(dobatch_server):
        answer = requests.get(
            os.environ["DOBATCH_BASE_URL"] + "/v1/batches",
            headers={"Authorization": "Bearer " + os.environ["DIGITALOCEAN_TOKEN"]},
        )
        assert answer.json()["data"] == []

    @pytest.mark.dobatch_server(lambda body: "mine", wire="B")
    def test_two(dobatch_server):
        import pandas as pd, dobatch_pandas as dobatch
        df = pd.DataFrame({"t": ["a", "b"]})
        answered = df.dobatch.join(df.dobatch.submit("{t}", model="m", into="x", display=False))
        assert list(answered["x"]) == ["mine", "mine"]
        assert len(dobatch_server.batches) == 1

    def test_three(dobatch_server):
        dobatch_server.faults.add("list_batches", status=503)
        assert dobatch_server.batches == []
"""


def test_the_fixture_is_there_for_every_project(pytester):
    """
    By its entry point, without a line in a conftest; options stand in a mark.
    """
    pytester.makepyfile(FIXTURE)
    # A marker that is not registered would be an error.
    done = pytester.runpytest_subprocess("--strict-markers", "-p", "no:cacheprovider", "-q")
    done.assert_outcomes(passed=3)
    listed = pytester.runpytest_subprocess("--markers")
    assert "dobatch_server(model, **options)" in "\n".join(listed.outlines)


def test_a_fault_file_holds_faults(tmp_path):
    """
    One a line, in the words of --fault.
    """
    file = tmp_path / "faults"
    file.write_text("# a bad day\nlist_batches:status=503,times=1\n\n*:delay=0.001,times=none\n")
    with Remote(tmp_path / "home", "--fault-file", str(file)) as remote:
        api = Api(remote)
        assert [api.call("GET", "/v1/batches").status_code for _ in range(2)] == [503, 200]
        assert json.loads(api.call("GET", "/_dobatch/faults").text)["calls"][0]["times"] is None


def test_the_documented_examples_of_the_fixture_run(pytester):
    """
    The three of the page, as they stand there.
    """
    page = (Path(__file__).parents[2] / "docs" / "local_service.md").read_text(encoding="utf-8")
    pytester.makepyfile("\n".join(re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)))
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "-q").assert_outcomes(passed=3)
