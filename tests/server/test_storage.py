"""Signed addresses: what was signed, for as long as it was signed, and nothing else."""

from __future__ import annotations

import socket
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import requests
from server.driver import chat_lines, jsonl
from waiting import eventually

DATA = jsonl(chat_lines(3))


def _changed(url, **query):
    parts = urlsplit(url)
    return parts._replace(query=urlencode({**dict(parse_qsl(parts.query)), **query})).geturl()


def _done(api, count=50):
    batch_id = api.create(chat_lines(count))
    api.until(batch_id, "completed")
    return api.results(batch_id).json()["output_file_url"]


def test_an_upload_address_takes_bytes_without_a_token(api):
    """
    The signature is all that is needed; uploading again replaces.
    """
    url = api.intent()["upload_url"]
    first = api.put(url, DATA)
    assert first.status_code == 200
    assert api.put(url, DATA).headers["etag"] == first.headers["etag"]
    assert api.put(url, DATA + DATA).headers["etag"] != first.headers["etag"]


def test_a_token_on_a_signed_address_is_refused(api):
    """
    Storage knows one kind of proof; the token was never meant for it.
    """
    url = api.intent()["upload_url"]
    assert requests.put(url, DATA, headers=api.headers, timeout=120).status_code == 400
    assert requests.get(_done(api), headers=api.headers, timeout=120).status_code == 400


@pytest.mark.parametrize(
    "content_type", ["application/jsonl", "text/plain", "application/octet-stream; charset=x"]
)
def test_another_content_type_than_the_signed_one_voids_the_signature(serve, content_type):
    """
    403, and nothing is stored.
    """
    api = serve(upload_type="application/octet-stream")
    intent = api.intent()
    assert api.put(intent["upload_url"], DATA, content_type).status_code == 403
    assert api.post_batch(intent["file_id"]).status_code == 400


@pytest.mark.parametrize(
    "content_type",
    ["application/jsonl", "application/x-ndjson", "application/octet-stream", "text/plain", None],
)
def test_any_content_type_uploads_where_none_was_signed(api, content_type):
    """
    Official clients send three different ones, and some none.
    """
    intent = api.intent()
    assert "content-type" not in intent["upload_url"]
    assert api.put(intent["upload_url"], DATA, content_type).status_code == 200
    assert api.until(api.post_batch(intent["file_id"]).json()["batch_id"], "completed")


def test_the_signed_content_type_can_be_the_older_one(serve):
    """
    So that a client's second try can be tested.
    """
    api = serve(upload_type="application/jsonl")
    url = api.intent()["upload_url"]
    assert api.put(url, DATA).status_code == 403
    assert api.put(url, DATA, None).status_code == 403
    assert api.put(url, DATA, "application/jsonl").status_code == 200


def test_addresses_end(serve):
    """
    After their lifetime: 403, for uploads and downloads.
    """
    api = serve(url_lifetime=600)
    upload, download = api.intent()["upload_url"], _done(api)
    api.server.advance(590)
    assert requests.get(download, timeout=120).status_code == 200
    api.server.advance(20)
    assert api.put(upload, DATA).status_code == 403
    assert requests.get(download, timeout=120).status_code == 403


def test_a_changed_address_is_refused(api):
    """
    Path, expiry, type and signature are all covered; a method too.
    """
    upload, download = api.intent()["upload_url"], _done(api)
    other = api.intent()["file_id"]
    parts = urlsplit(upload)
    for url in (
        _changed(upload, expires="99999999999"),
        _changed(upload, **{"content-type": "application/jsonl"}),
        _changed(upload, signature="0" * 64),
        _changed(upload, signature="ü"),
        _changed(upload, more="x"),
        parts._replace(query="").geturl(),
        parts._replace(path=f"/storage/inputs/{other}.jsonl").geturl(),
    ):
        assert api.put(url, DATA).status_code == 403
    assert requests.get(upload, timeout=120).status_code == 405
    assert requests.head(download, timeout=120).status_code == 403
    assert requests.get(download.replace("outputs/", "outputs/..%2Finputs/"), timeout=120).status_code in (
        403,
        404,
    )


def test_a_file_in_use_is_not_replaced(api):
    """
    The input of a batch cannot change under it.
    """
    intent = api.intent()
    api.put(intent["upload_url"], DATA)
    api.post_batch(intent["file_id"])
    assert api.put(intent["upload_url"], DATA).status_code == 409


def test_an_upload_that_comes_late_changes_no_batch(api):
    """
    A client lost its patience, uploaded again and made a batch; then its first upload came through.
    """
    intent = api.intent()
    parts = urlsplit(intent["upload_url"])
    late = jsonl(chat_lines(2))
    with socket.create_connection((parts.hostname, parts.port), timeout=120) as connection:
        head = (
            f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Content-Length: {len(late)}\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(head.encode() + late[:10])
        folder = api.server._running().inputs.folder
        eventually(lambda: list(folder.glob("*.partial")))
        assert api.put(intent["upload_url"], DATA).status_code == 200
        batch_id = api.post_batch(intent["file_id"]).json()["batch_id"]
        connection.sendall(late[10:])
        assert connection.recv(100).split(b" ")[1] == b"409"
    api.until(batch_id, "completed")
    assert {line["custom_id"] for line in api.lines(batch_id)[0]} == {f"id-{n:04d}" for n in range(3)}
    eventually(lambda: not list(folder.glob("*.partial")))


def test_an_upload_without_a_length_is_refused(api):
    """
    Object stores want Content-Length: chunked bodies get 411.
    """
    assert api.put(api.intent()["upload_url"], iter([DATA])).status_code == 411


def test_an_upload_that_breaks_off_leaves_nothing(api):
    """
    A client that dies in the middle has uploaded nothing.
    """
    intent = api.intent()
    parts = urlsplit(intent["upload_url"])
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        request = (
            f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            "Content-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\n"
        )
        connection.sendall(request.encode() + b"x" * 1000)
    assert api.post_batch(intent["file_id"]).status_code == 400
    folder = api.server._running().inputs.folder
    eventually(lambda: not list(folder.iterdir()))


def test_ranges_are_served(api):
    """
    206 for a piece, 416 beyond the end, the whole where If-Range names another version.
    """
    url = _done(api)
    whole = requests.get(url, timeout=120)
    assert whole.headers["accept-ranges"] == "bytes"
    etag, content = whole.headers["etag"], whole.content

    def part(range_, **headers):
        return requests.get(url, headers={"Range": range_, **headers}, timeout=120)

    piece = part("bytes=10-19")
    assert (piece.status_code, piece.content) == (206, content[10:20])
    assert piece.headers["content-range"] == f"bytes 10-19/{len(content)}"
    assert piece.headers["etag"] == etag
    assert part("bytes=100-").content == content[100:]
    assert part("bytes=-7").content == content[-7:]
    assert part(f"bytes={len(content)}-").status_code == 416
    assert part("bytes=5-", **{"If-Range": etag}).status_code == 206
    other = part("bytes=5-", **{"If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, content)


def test_errors_of_storage_are_xml(api):
    """
    As an object store answers, not as the API does.
    """
    answer = api.put(_changed(api.intent()["upload_url"], signature="x"), DATA)
    assert answer.headers["content-type"] == "application/xml"
    assert "<Code>SignatureDoesNotMatch</Code>" in answer.text
