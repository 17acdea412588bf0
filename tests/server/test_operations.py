"""The seven operations as the documentation describes them, both wires."""

from __future__ import annotations

import base64

import pytest
import requests
from server import schemas
from server.driver import (
    CHAT,
    EMBEDDINGS,
    MESSAGES,
    RESPONSES,
    Api,
    chat_line,
    chat_lines,
    jsonl,
    message_line,
)
from server.schemas import check

RATES = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")


def test_every_answer_of_wire_a_fits_its_schema(api):
    """
    A batch from its file to its results, and each answer on the way has the documented shape.
    """
    answer = api.call("POST", "/v1/batches/files", json={"file_name": "INPUT.JSONL"})
    assert answer.status_code == 201
    check(answer.json(), schemas.FILE)
    intent = answer.json()
    assert api.put(intent["upload_url"], jsonl(chat_lines(20))).status_code == 200

    created = api.post_batch(intent["file_id"], metadata={"who": "me"})
    assert created.status_code == 201
    check(created.json(), schemas.BATCH)
    batch_id = created.json()["batch_id"]

    batch = api.until(batch_id, "completed")
    check(batch, schemas.BATCH)
    assert batch["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
    assert batch["metadata"] == {"who": "me"}

    check(api.call("GET", "/v1/batches").json(), schemas.LIST)
    results = api.results(batch_id)
    check(results.json(), schemas.RESULTS)
    assert results.json()["result_available"] is True
    output, errors = api.lines(batch_id)
    assert {line["custom_id"] for line in output} == {line["custom_id"] for line in chat_lines(20)}
    assert not errors
    for line in output:
        check(line, schemas.OPENAI_LINE)
        check(line["response"]["body"], schemas.CHAT)

    refused = api.cancel(batch_id)
    assert refused.status_code == 409
    check(refused.json(), schemas.ERROR)


def test_wire_b_has_the_shapes_of_the_deployed_service(serve):
    """
    The other description: edges with cursors, one file for everything, 412 until it is there.
    """
    api = serve(wire="B", fail_share=0.5, fail_kinds=("server_error",))
    api.server.hold("validating")
    batch_id = api.create(chat_lines(20))
    assert api.batch(batch_id)["status"] == "queued"
    assert api.batch(batch_id)["result_available"] is False
    assert api.results(batch_id).status_code == 412
    api.server.release()

    batch = api.until(batch_id, "completed")
    assert set(batch) == {
        "batch_id", "status", "provider", "file_id", "completion_window", "request_counts", "request_id",
        "result_available", "created_at", "updated_at", "expires_at",
    }  # fmt: skip
    assert batch["result_available"] is True
    links = api.results(batch_id).json()
    assert set(links) == {"download", "output_file_id"}
    assert set(links["download"]) == {"presigned_url", "expires_at"}
    everything, _ = api.lines(batch_id)
    assert len(everything) == 20
    assert any(line["error"] for line in everything)
    assert any(line["response"] for line in everything)


def test_a_page_of_wire_b_is_followed_by_its_cursor(serve):
    """
    endCursor, given as `after`, brings the next page until hasNextPage is false.
    """
    api = serve(wire="B")
    ids = [api.create(chat_lines(1)) for _ in range(5)]
    found, after = [], None
    while True:
        page = api.call("GET", "/v1/batches", params={"limit": 2, "after": after}).json()
        found += [edge["node"]["batch_id"] for edge in page["edges"]]
        after = page["page_info"]["endCursor"]
        assert after == page["edges"][-1]["cursor"]
        assert base64.b64decode(after, validate=True)
        if not page["page_info"]["hasNextPage"]:
            break
    assert found == ids[::-1]


def test_the_list_is_paged_newest_first(api):
    """
    last_id, given as `after`, brings the next page; a status filters.
    """
    ids = [api.create(chat_lines(1)) for _ in range(5)]
    for batch_id in ids:
        api.until(batch_id, "completed")
    first = api.call("GET", "/v1/batches", params={"limit": 3}).json()
    assert [batch["batch_id"] for batch in first["data"]] == ids[:1:-1]
    assert (first["first_id"], first["last_id"], first["has_more"]) == (ids[4], ids[2], True)
    second = api.call("GET", "/v1/batches", params={"limit": 3, "after": first["last_id"]}).json()
    assert [batch["batch_id"] for batch in second["data"]] == ids[1::-1]
    assert second["has_more"] is False
    assert api.call("GET", "/v1/batches", params={"status": "failed"}).json()["data"] == []
    assert len(api.call("GET", "/v1/batches", params={"status": "completed"}).json()["data"]) == 5


def test_an_empty_list_has_null_ids(api):
    """
    A page without batches fits the documented shape too.
    """
    page = api.call("GET", "/v1/batches").json()
    check(page, schemas.LIST)
    assert page["first_id"] is None


@pytest.mark.parametrize(
    "query",
    [
        *(
            {"limit": limit}
            for limit in (0, 101, -1, "x", "", "\u0663", "\u00b2", "1_0", "+5", " 5", "5\n", "9" * 5000)
        ),
        {"after": "nobody"},
        {"status": "warm"},
    ],
    ids=lambda query: ascii(query)[:30],
)
def test_the_list_refuses_what_is_not_documented(api, query):
    """
    A bad limit, cursor or status answers 400 rather than something surprising.
    """
    answer = api.call("GET", "/v1/batches", params=query)
    assert answer.status_code == 400
    check(answer.json(), schemas.ERROR)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/batches/files"),
        ("POST", "/v1/batches"),
        ("GET", "/v1/batches"),
        ("GET", "/v1/batches/x"),
        ("POST", "/v1/batches/x/cancel"),
        ("GET", "/v1/batches/x/results"),
        ("POST", "/v1/chat/completions"),
    ],
)
def test_no_call_passes_without_a_token(serve, method, path):
    """
    Without a token, with an empty one, or with the wrong one: 401.
    """
    api = serve(token="secret")
    for headers in (
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic x"},
    ):
        answer = api.call(method, path, headers=headers, json={})
        assert answer.status_code == 401
        assert answer.json()["id"] == "unauthorized"


def test_any_token_is_accepted_where_none_was_chosen(serve):
    """
    To try things out, any token does.
    """
    api = serve()
    assert Api(api.server, "whatever").call("GET", "/v1/batches").status_code == 200


@pytest.mark.parametrize("name", ["x.json", ".jsonl", "", None, 7, "input.jsonl.gz"])
def test_file_names_are_checked(api, name):
    """
    A name ends in .jsonl, in any case, and has at least seven characters.
    """
    answer = api.call("POST", "/v1/batches/files", json={"file_name": name})
    assert answer.status_code == 422
    check(answer.json(), schemas.ERROR)


@pytest.mark.parametrize("name", ["a.jsonl", "A.JSONL", "a b/ü.Jsonl"])
def test_file_names_in_any_case_pass(api, name):
    """
    The shortest name, and upper case, pass.
    """
    assert api.intent(name)["file_id"]


@pytest.mark.parametrize("path", ["/v1/batches/files", "/v1/batches"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff"])
def test_a_body_that_is_no_json_object_answers_400(api, path, body):
    """
    Garbage is refused, and the server lives on.
    """
    answer = api.call("POST", path, data=body)
    assert answer.status_code == 400
    check(answer.json(), schemas.ERROR)


@pytest.mark.parametrize(
    "fields",
    [
        {"provider": "else"},
        {"endpoint": None},
        {"endpoint": "/v1/nothing"},
        {"endpoint": MESSAGES},
        {"completion_window": "1h"},
        {"request_id": None},
        {"metadata": {"a": 1}},
        {"metadata": "x"},
        {"provider": "anthropic", "endpoint": CHAT},
    ],
)
def test_a_batch_is_refused_with_bad_fields(api, fields):
    """
    Each field is checked before anything is stored.
    """
    file_id = api.upload(chat_lines(1))
    answer = api.post_batch(file_id, fields.pop("provider", "openai"), **fields)
    assert answer.status_code == 422
    check(answer.json(), schemas.ERROR)
    assert api.server.batches == []


def test_a_batch_needs_an_uploaded_file(api):
    """
    An unknown file is 404, one announced and never uploaded 400.
    """
    assert api.post_batch("nobody").status_code == 404
    assert api.post_batch(api.intent()["file_id"]).status_code == 400


def test_the_same_request_id_returns_the_same_batch(api):
    """
    A repeated creation is harmless; with another file it is a conflict.
    """
    file_id, other = api.upload(chat_lines(2)), api.upload(chat_lines(3))
    first = api.post_batch(file_id, request_id="once").json()["batch_id"]
    api.until(first, "completed")
    again = api.post_batch(file_id, request_id="once")
    assert again.status_code == 201
    assert again.json()["batch_id"] == first
    assert api.post_batch(other, request_id="once").status_code == 409
    assert len(api.server.batches) == 1
    assert set(api.server.executed.values()) == {1}


@pytest.mark.parametrize("path", ["/v1/batches/x", "/v1/batches/x/results"])
def test_an_unknown_batch_is_not_found(api, path):
    """
    404, in the documented shape.
    """
    answer = api.call("GET", path)
    assert answer.status_code == 404
    check(answer.json(), schemas.ERROR)
    assert api.cancel("x").status_code == 404


def test_an_unknown_path_answers_in_the_documented_shape(api):
    """
    404 and 405 are errors like all others.
    """
    for answer, status in ((api.call("GET", "/v2/x"), 404), (api.call("DELETE", "/v1/batches"), 405)):
        assert answer.status_code == status
        assert "message" in answer.json()


@pytest.mark.parametrize(
    ("rule", "provider", "endpoint", "status"),
    [
        ("either", "anthropic", None, 201),
        ("either", "anthropic", MESSAGES, 201),
        ("either", "openai", EMBEDDINGS, 201),
        ("always", "anthropic", None, 422),
        ("always", "anthropic", MESSAGES, 201),
        ("openai_only", "anthropic", MESSAGES, 422),
        ("openai_only", "anthropic", None, 201),
        ("openai_only", "openai", EMBEDDINGS, 422),
        ("openai_only", "openai", RESPONSES, 201),
    ],
)
def test_the_endpoint_follows_one_documentation_or_the_other(serve, rule, provider, endpoint, status):
    """
    Older and newer descriptions of `endpoint` can both be had, and the refusal names it.
    """
    api = serve(endpoint_rule=rule)
    answer = api.post_batch(api.upload([message_line("a")]), provider, endpoint=endpoint)
    assert answer.status_code == status
    assert status == 201 or "endpoint" in answer.json()["message"]


def test_results_that_are_not_ready_are_flagged_or_412(serve):
    """
    Both answers that are in use, as one likes.
    """
    for choice, status in (("flag", 200), ("412", 412)):
        api = serve(not_ready=choice)
        api.server.hold()
        answer = api.results(api.create(chat_lines(1)))
        assert answer.status_code == status
        if status == 200:
            check(answer.json(), schemas.RESULTS)
            assert answer.json()["result_available"] is False
        else:
            assert answer.json()["id"] == "precondition_failed"


@pytest.mark.parametrize("wire", ["A", "B"])
def test_anthropic_lines_come_back_in_their_own_shape(serve, wire):
    """
    Messages: `result.type`, content blocks, and a system text that is no message.
    """
    api = serve(wire=wire)
    batch_id = api.create(
        [message_line(f"m_{n}", f"say {n}", system="be brief") for n in range(9)], "anthropic"
    )
    api.until(batch_id, "completed")
    output, _ = api.lines(batch_id)
    for line in output:
        check(line, schemas.ANTHROPIC_LINE)
    said = {line["custom_id"]: line["result"]["message"]["content"][0]["text"] for line in output}
    assert said == {f"m_{n}": f"say {n}" for n in range(9)}


def test_the_order_of_the_output_is_not_the_inputs(api):
    """
    Nobody can come to rely on the order, not even with two rows.
    """
    for count in (2, 3, 600):
        lines = chat_lines(count)
        batch_id = api.create(lines)
        api.until(batch_id, "completed")
        output, _ = api.lines(batch_id)
        ids = [line["custom_id"] for line in output]
        expected = [line["custom_id"] for line in lines]
        assert sorted(ids) == expected
        assert ids != expected


def test_rare_separators_stay_within_their_line(api):
    """
    U+2028, U+0085, vertical tabs and emoji come back as they went.
    """
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg 🎬"
    batch_id = api.create([chat_line("one", text)])
    api.until(batch_id, "completed")
    output, _ = api.lines(batch_id)
    assert output[0]["response"]["body"]["choices"][0]["message"]["content"] == text


def test_an_api_call_needs_no_trailing_newline_and_no_content_type(api):
    """
    A file whose last line has no newline runs whole.
    """
    intent = api.intent()
    assert api.put(intent["upload_url"], jsonl(chat_lines(3))[:-1], None).status_code == 200
    batch_id = api.post_batch(intent["file_id"]).json()["batch_id"]
    assert api.until(batch_id, "completed")["request_counts"]["completed"] == 3


def test_calls_are_remembered_in_order(api):
    """
    A test can see what a client did.
    """
    batch_id = api.create(chat_lines(1))
    requests.get(f"{api.url}/v1/batches/{batch_id}", headers=api.headers, timeout=120)
    assert api.server.calls == ["create_file", "upload", "create_batch", "get_batch"]
