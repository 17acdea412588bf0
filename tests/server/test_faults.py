"""Trouble on demand, each kind once."""

from __future__ import annotations

from collections import Counter

import pytest
import requests
from server.driver import chat_lines, jsonl, message_line, read_lines

DATA = jsonl(chat_lines(3))


def _until_it_breaks(answer):
    try:
        yield from answer.iter_content(100)
    except (requests.exceptions.ChunkedEncodingError, requests.ConnectionError):
        return
    raise AssertionError("the download came to its end")


def _finished(api, count=40):
    batch_id = api.create(chat_lines(count))
    api.until(batch_id, "completed")
    return batch_id


@pytest.mark.parametrize("status", [500, 502, 503])
def test_the_next_calls_answer_a_proxys_page(api, status):
    """
    HTML for as many calls as were asked for, of that operation alone.
    """
    api.server.faults.add("list_batches", status=status, times=2)
    for _ in range(2):
        answer = api.call("GET", "/v1/batches")
        assert answer.status_code == status
        assert answer.headers["content-type"].startswith("text/html")
        assert api.call("GET", "/v1/batches/x").status_code == 404
    assert api.call("GET", "/v1/batches").status_code == 200


@pytest.mark.parametrize("status", [401, 403, 409, 429])
def test_other_statuses_have_the_services_body(api, status):
    """
    With or without retry-after.
    """
    api.server.faults.add("list_batches", status=status, retry_after=3)
    api.server.faults.add("list_batches", status=status)
    first, second = (api.call("GET", "/v1/batches") for _ in range(2))
    assert first.status_code == second.status_code == status
    assert first.headers["retry-after"] == "3"
    assert "retry-after" not in second.headers
    assert first.json()["message"]


def test_a_fault_may_wait_and_may_last(api):
    """
    `skip` lets calls pass first; `times=None` lasts until `clear`.
    """
    api.server.faults.add("*", status=500, times=None, skip=1)
    assert api.call("GET", "/v1/batches").status_code == 200
    for _ in range(3):
        assert api.call("GET", "/v1/batches/x").status_code == 500
    api.server.faults.clear()
    assert api.call("GET", "/v1/batches").status_code == 200


def test_a_fault_can_answer_any_body(api):
    """
    An empty answer, or garbage.
    """
    api.server.faults.add("list_batches", status=200, body="")
    answer = api.call("GET", "/v1/batches")
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_call_can_be_dropped_before_it_is_handled(api):
    """
    No answer, and nothing happened.
    """
    file_id = api.upload(chat_lines(1))
    api.server.faults.add("create_batch", drop="before")
    with pytest.raises(requests.ConnectionError):
        api.post_batch(file_id)
    assert api.server.batches == []


def test_an_answer_can_be_lost(api):
    """
    No answer, though the batch is there; asking again with the same key finds it.
    """
    file_id = api.upload(chat_lines(1))
    api.server.faults.add("create_batch", drop="after")
    with pytest.raises(requests.ConnectionError):
        api.post_batch(file_id, request_id="once")
    (batch,) = api.server.batches
    assert api.post_batch(file_id, request_id="once").json()["batch_id"] == batch.batch_id


def test_an_upload_can_be_cut(api):
    """
    The connection breaks in the middle, and nothing is published.
    """
    intent = api.intent()
    api.server.faults.add("upload", cut=100)
    with pytest.raises(requests.ConnectionError):
        api.put(intent["upload_url"], DATA * 100_000)
    assert api.post_batch(intent["file_id"]).status_code == 400
    assert api.put(intent["upload_url"], DATA).status_code == 200


def test_a_link_can_expire_in_the_middle_of_an_upload(api):
    """
    The connection breaks, and the same address is refused from then on.
    """
    url = api.intent()["upload_url"]
    api.server.faults.add("upload", cut=100, expire=True)
    with pytest.raises(requests.ConnectionError):
        api.put(url, DATA * 100_000)
    assert api.put(url, DATA).status_code == 403


def test_a_download_can_be_cut_and_taken_up_again(api):
    """
    Fewer bytes than announced; a range brings the rest.
    """
    url = api.results(_finished(api)).json()["output_file_url"]
    whole = requests.get(url, timeout=120).content
    api.server.faults.add("download", cut=1000)
    with requests.get(url, stream=True, timeout=120) as answer:
        assert int(answer.headers["content-length"]) == len(whole)
        got = b"".join(_until_it_breaks(answer))
    assert got == whole[:1000]
    rest = requests.get(url, headers={"Range": "bytes=1000-"}, timeout=120)
    assert got + rest.content == whole


def test_a_link_can_expire_in_the_middle_of_a_download(api):
    """
    The bytes stop, the link is refused from then on, a new one works.
    """
    batch_id = _finished(api)
    url = api.results(batch_id).json()["output_file_url"]
    api.server.faults.add("download", cut=500, expire=True)
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        requests.get(url, timeout=120)
    assert requests.get(url, timeout=120).status_code == 403
    assert requests.get(api.results(batch_id).json()["output_file_url"], timeout=120).status_code == 200


def test_links_can_be_refused(api):
    """
    The first upload and the first download answer 403, as if they were too old.
    """
    api.server.faults.add("upload", expire=True)
    api.server.faults.add("download", expire=True)
    url = api.intent()["upload_url"]
    assert [api.put(url, DATA).status_code for _ in range(2)] == [403, 200]
    url = api.results(_finished(api)).json()["output_file_url"]
    assert [requests.get(url, timeout=120).status_code for _ in range(2)] == [403, 200]


def test_a_status_nobody_knows_can_be_shown(api):
    """
    In single answers and in lists.
    """
    batch_id = _finished(api, 1)
    api.server.faults.add("get_batch", word="warming_up")
    api.server.faults.add("list_batches", word="warming_up")
    assert api.batch(batch_id)["status"] == "warming_up"
    assert api.call("GET", "/v1/batches").json()["data"][0]["status"] == "warming_up"
    assert api.batch(batch_id)["status"] == "completed"


def test_a_share_of_requests_fails_the_same_ones_every_time(serve):
    """
    By custom_id alone, in every way a provider has, and foretold by `failing`.
    """
    api = serve(fail_share=0.3)
    lines = chat_lines(400)
    expected = api.server.faults.failing(line["custom_id"] for line in lines)
    assert 0.2 < len(expected) / 400 < 0.4
    assert set(expected.values()) == {
        "rate_limited",
        "server_error",
        "bad_request",
        "content_filter",
        "empty",
    }
    batch_id = api.create(lines)
    batch = api.until(batch_id, "completed")
    output, errors = api.lines(batch_id)
    assert len(output) + len(errors) == 400
    where = {line["custom_id"]: line for line in output}
    aside = {line["custom_id"]: line for line in errors}
    for custom_id, kind in expected.items():
        if kind == "rate_limited":
            assert aside[custom_id]["response"]["status_code"] == 429
        elif kind == "server_error":
            assert aside[custom_id]["response"] is None
            assert aside[custom_id]["error"]["code"] == "server_error"
        elif kind == "bad_request":
            assert where[custom_id]["response"]["status_code"] == 400
            assert where[custom_id]["error"] is None
        elif kind == "empty":
            assert where[custom_id]["response"]["status_code"] == 0
        else:
            choice = where[custom_id]["response"]["body"]["choices"][0]
            assert (choice["finish_reason"], choice["message"]["content"]) == ("content_filter", None)
    good = sum(kind == "content_filter" for kind in expected.values()) + 400 - len(expected)
    assert batch["request_counts"] == {"total": 400, "completed": good, "failed": 400 - good}


def test_messages_fail_in_their_own_shapes(serve):
    """
    errored, flat and nested, and a refusal.
    """
    api = serve(fail_share=0.5)
    lines = [message_line(f"m{n}") for n in range(200)]
    batch_id = api.create(lines, "anthropic")
    api.until(batch_id, "completed")
    output, errors = api.lines(batch_id)
    kinds = Counter("nested" if "error" in line["result"]["error"] else "flat" for line in errors)
    assert kinds["nested"]
    assert kinds["flat"]
    assert any(line["result"]["type"] == "errored" for line in output)
    assert any(line["result"].get("message", {}).get("stop_reason") == "refusal" for line in output)


def test_requests_can_fail_once_and_then_succeed(serve):
    """
    For trying out what happens on a second try.
    """
    api = serve(fail_share=1.0, fail_times=1, fail_kinds=("rate_limited",))
    assert api.until(api.create(chat_lines(5)), "completed")["request_counts"]["failed"] == 5
    assert api.until(api.create(chat_lines(5)), "completed")["request_counts"]["completed"] == 5


def test_result_lines_can_be_missing_doubled_foreign_and_torn(api):
    """
    What reality holds, in the next result file only.
    """
    api.server.faults.spoil(missing=2, doubled=3, foreign=1, torn=True)
    batch_id = _finished(api)
    content = requests.get(api.results(batch_id).json()["output_file_url"], timeout=120).content
    assert not content.endswith(b"\n")
    lines = content.split(b"\n")
    assert len(lines) == 40 - 2 + 3 + 1
    ids = Counter(line["custom_id"] for line in read_lines(b"\n".join(lines[:-1])))
    assert any(one.startswith("foreign") for one in ids) or b"foreign" in lines[-1]
    second = _finished(api)
    assert len(api.lines(second)[0]) == 40


def test_every_request_can_take_its_time(serve):
    """
    Latency is spent in several threads at once, and may be changed while batches run.
    """
    api = serve(latency=3600)
    api.server.hold("in_progress", after=8)
    batch_id = api.create(chat_lines(20))
    batch = api.until(batch_id, "in_progress")
    assert batch["request_counts"]["completed"] == 0
    api.server.faults.latency = 0
    assert api.cancel(batch_id).status_code == 200


def test_a_call_can_be_late(api):
    """
    Late enough for a client to give up.
    """
    api.server.faults.add("list_batches", delay=3600)
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{api.url}/v1/batches", headers=api.headers, timeout=(120, 0.2))


def test_an_unknown_operation_is_told_at_once(api):
    """
    A typo in a test must not make it pass.
    """
    with pytest.raises(ValueError, match="create_batch"):
        api.server.faults.add("create_batches", status=500)
