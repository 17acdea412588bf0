"""Bytes to and from presigned addresses, over real sockets, against a store that does what it is told."""

from __future__ import annotations

import gzip
import logging
import os
import re
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy import Fault, Proxy, answer

from dobatch_pandas.errors import (
    ConfigurationError,
    ConnectionFailed,
    DobatchError,
    LinkRefused,
    ObjectGone,
    TransferError,
    Truncated,
)
from dobatch_pandas.service.network import Network, retry_policy, scrub
from dobatch_pandas.service.transfer import download, upload

SECRET = "5ecre7signature"
QUICK = Network(
    timeout=0.5
)  # for what is waited for: whatever else a busy machine takes as long for is no failure
CONTENT = os.urandom(700_000)


class Store:
    """An object store of one object, its faults as attributes; ``refuse`` holds answers to come first."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.etag: str | None = '"v1"'
        self.ranges = True
        self.packed = False
        self.cut: list[int] = []
        self.refuse: list[tuple[int, bytes]] = []
        self.range_answer: Callable[[int], tuple[int, dict[str, str], bytes]] | None = None
        self.before: Callable[[], None] = lambda: None
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.received = b""
        self.broken: list[bytes] = []
        store = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_PUT(self) -> None:
                store.requests.append((self.requestline, dict(self.headers)))
                received = self.rfile.read(int(self.headers["Content-Length"]))
                if len(received) < int(self.headers["Content-Length"]):
                    store.broken.append(received)  # a connection that broke: its bytes may come late
                    return
                store.received = received
                self.reply(*(store.refuse.pop(0) if store.refuse else (200, b"")))

            def do_GET(self) -> None:
                store.requests.append((self.requestline, dict(self.headers)))
                store.before()
                if store.refuse:
                    return self.reply(*store.refuse.pop(0))
                start = int((re.findall(r"\d+", self.headers.get("Range", "")) or [0])[0])
                if start and store.range_answer:
                    status, headers, body = store.range_answer(start)
                    return self.reply(status, body, headers)
                whole = len(store.content)
                if start and store.ranges and self.headers.get("If-Range") == store.etag:
                    return self.reply(
                        206, store.content[start:], {"Content-Range": f"bytes {start}-{whole - 1}/{whole}"}
                    )
                if store.packed:
                    return self.reply(200, gzip.compress(store.content), {"Content-Encoding": "gzip"})
                return self.reply(200, store.content)

            def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                given = {"Content-Length": str(len(body)), **(headers or {})}
                if store.etag is not None:
                    given.setdefault("ETag", store.etag)
                self.send_response(status)
                for name, text in given.items():
                    self.send_header(name, text)
                self.end_headers()
                end = store.cut.pop(0) if store.cut and status in (200, 206) else len(body)
                self.wfile.write(body[:end])

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        self.url = f"{self.origin}/bucket/part.jsonl?X-Signature={SECRET}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def ranges_asked(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.requests]


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.server.shutdown()
    store.server.server_close()


@pytest.fixture
def part(tmp_path: Path) -> Path:
    path = tmp_path / "part-00000.jsonl"
    path.write_bytes(CONTENT)
    return path


def get(url: str, path: Path, *, tries: int = 5, **options: Any) -> None:
    download(url, path, retry=retry_policy(tries, backoff=0.001), **options)


def leftovers(path: Path) -> set[str]:
    return {item.name for item in path.parent.iterdir()} - {path.name}


# Uploads


def test_upload_sends_the_file_and_nothing_that_was_not_signed(
    store: Store, part: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An upload announces its length, is never chunked, and carries no credentials, nor a ``.netrc``'s."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password theirs\n")
    monkeypatch.setenv("NETRC", str(netrc))
    progress: list[tuple[int, int]] = []

    upload(store.url, part, on_progress=lambda *seen: progress.append(seen))

    headers = {name.lower(): text for name, text in store.requests[0][1].items()}
    assert store.received == CONTENT
    assert headers["content-length"] == str(len(CONTENT))
    assert headers["content-type"] == "application/octet-stream"
    assert not headers.keys() & {"authorization", "transfer-encoding", "cookie"}
    assert progress == sorted(progress)
    assert progress[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize(
    "target",
    [
        "/a/b%2fc%2Fd/~e//f/./g/../h?X-Amz-Credential=k%2f1&b=%7e~+%20&empty=&flag&X-Signature=%3D%3d",
        "/",
        "/x?q='\"|{}^`[]",
    ],
)
def test_an_address_is_used_verbatim(store: Store, part: Path, target: str) -> None:
    """What was signed is what is sent, to the last percent sign."""
    upload(store.origin + target, part)

    assert store.requests[0][0] == f"PUT {target} HTTP/1.1"


def test_an_empty_file_is_announced_as_empty(store: Store, tmp_path: Path) -> None:
    """Even nothing has a length; storage refuses a chunked nothing."""
    path = tmp_path / "empty.jsonl"
    path.touch()
    upload(store.url, path)

    assert store.requests[0][1]["Content-Length"] == "0"
    assert "Transfer-Encoding" not in store.requests[0][1]


S3_REFUSAL = (
    b'<?xml version="1.0"?><Error><Code>SignatureDoesNotMatch</Code><Message>Not what was signed</Message>'
    b"<StringToSign>AWS4 "
    + SECRET.encode()
    + b"</StringToSign><SignatureProvided>5ecre7</SignatureProvided></Error>"
)


def test_a_refusal_says_why_without_the_signature(store: Store, part: Path) -> None:
    """A 403 is LinkRefused with storage's code and words, and nothing of what was signed."""
    store.refuse = [(403, S3_REFUSAL)]
    with pytest.raises(LinkRefused, match="403: SignatureDoesNotMatch: Not what was signed") as caught:
        upload(store.url, part)

    assert "5ecre7" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (403, b"", LinkRefused),
        (401, b"", LinkRefused),
        (400, b"<Code>ExpiredToken</Code><Message>Expired</Message>", LinkRefused),
        (400, b"<Code>BadDigest</Code>", TransferError),
        (411, b"", TransferError),
        (429, b"slow down", ConnectionFailed),
        (500, b"<html><body>oops</body></html>", ConnectionFailed),
        (503, b"<Code>SlowDown</Code>", ConnectionFailed),
        (307, b"", TransferError),
        (404, f"no /bucket/part.jsonl?X-Signature={SECRET}".encode(), ObjectGone),
    ],
)
def test_each_answer_of_storage_is_one_kind_of_error(
    store: Store, part: Path, status: int, body: bytes, error: type[DobatchError]
) -> None:
    """Expired, refused, busy and gone are told apart, because what to do next differs."""
    store.refuse = [(status, body)]
    with pytest.raises(error, match=str(status)) as caught:
        upload(store.url, part)

    assert type(caught.value) is error
    assert SECRET not in str(caught.value)


def test_an_early_refusal_is_heard_in_the_middle_of_an_upload(tmp_path: Path) -> None:
    """Storage that answers 403 and closes without reading the body is heard, not taken for a broken line."""
    path = tmp_path / "big.jsonl"
    path.write_bytes(b"x" * 8_000_000)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(
                    answer(403, "<Code>AccessDenied</Code><Message>Request has expired</Message>")
                )

        threading.Thread(target=refuse, daemon=True).start()
        with pytest.raises(LinkRefused, match="Request has expired"):
            upload(f"http://127.0.0.1:{listener.getsockname()[1]}/x?s={SECRET}", path)


def test_a_file_that_shrinks_while_it_is_sent_is_an_error(store: Store, part: Path) -> None:
    """A file that somebody cuts in mid-upload is not sent as if it were whole."""

    def shrink(sent: int, total: int) -> None:
        os.truncate(part, 100)

    with pytest.raises(TransferError, match="lost"):
        upload(store.url, part, on_progress=shrink)
    assert store.received != CONTENT


@pytest.mark.parametrize(
    "fault",
    [
        Fault(reset_up=1),
        Fault(reset_up=300_000),
        Fault(lose_answer=True),
        Fault(close_down=0),
        Fault(stall_down=0),
    ],
    ids=["before", "during", "after", "closed", "stalled"],
)
def test_an_upload_that_breaks_is_connection_failed(store: Store, part: Path, fault: Fault) -> None:
    """A connection that breaks before, during or after the bytes is one error, which may be tried again."""
    with Proxy(store.origin) as proxy:
        proxy.add(fault)
        url = store.url.replace(store.origin, proxy.url)
        with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1"):
            upload(url, part, network=QUICK)
        upload(url, part)

    assert store.received == CONTENT


def test_a_refused_connection_is_connection_failed(part: Path) -> None:
    """Nobody listening is said in words."""
    with socket.socket() as nobody:  # a port that is taken, and answers nothing
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionFailed, match="the connection was refused"):
            upload(f"http://127.0.0.1:{nobody.getsockname()[1]}/x?s={SECRET}", part)


# Downloads


def test_download_appears_whole(store: Store, tmp_path: Path) -> None:
    """A download ends with the file, its progress told, and nothing beside it."""
    path, progress = tmp_path / "output.jsonl", []
    path.write_bytes(b"an older file")
    get(store.url, path, on_progress=lambda *seen: progress.append(seen))

    assert path.read_bytes() == CONTENT
    assert leftovers(path) == set()
    assert progress[0] == (0, len(CONTENT))
    assert progress[-1] == (len(CONTENT), len(CONTENT))
    assert not store.requests[0][1].keys() & {"Authorization", "Range"}


def test_an_empty_object_is_a_file(store: Store, tmp_path: Path) -> None:
    """A result of no bytes is a file of no bytes."""
    store.content = b""
    get(store.url, tmp_path / "o")

    assert (tmp_path / "o").read_bytes() == b""


def test_a_broken_download_goes_on_from_the_byte_it_reached(store: Store, tmp_path: Path) -> None:
    """Three broken connections cost no byte twice."""
    store.cut = [200_000, 100_000, 50_000]
    get(store.url, tmp_path / "o", tries=1)

    assert (tmp_path / "o").read_bytes() == CONTENT
    assert store.ranges_asked == [None, "bytes=200000-", "bytes=300000-", "bytes=350000-"]
    assert store.requests[1][1]["If-Range"] == '"v1"'


@pytest.mark.parametrize("bytes_down", [0, 1, 150, 400, 300_000])
def test_a_reset_download_goes_on(store: Store, tmp_path: Path, bytes_down: int) -> None:
    """A reset in the head, or anywhere in the body, changes nothing in the file."""
    with Proxy(store.origin) as proxy:
        proxy.add(Fault(reset_down=bytes_down))
        get(store.url.replace(store.origin, proxy.url), tmp_path / "o")

    assert (tmp_path / "o").read_bytes() == CONTENT


def test_a_stalled_download_goes_on(store: Store, tmp_path: Path) -> None:
    """A connection through which nothing moves any more is given up, and the rest comes by another."""
    with Proxy(store.origin) as proxy:
        proxy.add(Fault(stall_down=100_000))
        get(store.url.replace(store.origin, proxy.url), tmp_path / "o", tries=30, network=QUICK)

    assert (tmp_path / "o").read_bytes() == CONTENT
    assert any(store.ranges_asked)


def test_a_later_process_goes_on_too(store: Store, tmp_path: Path) -> None:
    """What an earlier process had received is not asked for again."""
    path = tmp_path / "o"
    store.cut = [400_000]
    with pytest.raises(Truncated):
        get(store.url, path, tries=0)
    assert not path.exists()
    assert leftovers(path) == {"o.partial", "o.partial.etag"}

    get(store.url, path)
    assert path.read_bytes() == CONTENT
    assert store.ranges_asked == [None, "bytes=400000-"]
    assert leftovers(path) == set()


def test_bytes_of_two_versions_never_mix(store: Store, tmp_path: Path) -> None:
    """An object that is replaced between two tries is fetched anew, whole."""
    other = os.urandom(len(CONTENT))
    store.cut = [200_000]

    def replace() -> None:
        if len(store.requests) == 2:
            store.content, store.etag = other, '"v2"'

    store.before = replace
    get(store.url, tmp_path / "o")

    assert (tmp_path / "o").read_bytes() == other


@pytest.mark.parametrize("etag", [None, 'W/"v1"', "v1", '"v\x80"'])
def test_without_a_strong_version_a_download_starts_again(
    store: Store, tmp_path: Path, etag: str | None
) -> None:
    """Where nothing proves that the rest belongs to the same bytes, all of it is fetched again."""
    store.etag, store.cut = etag, [200_000]
    get(store.url, tmp_path / "o")

    assert (tmp_path / "o").read_bytes() == CONTENT
    assert store.ranges_asked == [None, None]


def test_a_store_without_ranges_is_started_again(store: Store, tmp_path: Path) -> None:
    """A store that answers a Range with the whole file gives the whole file, once."""
    store.ranges, store.cut = False, [200_000, 300_000]
    get(store.url, tmp_path / "o")

    assert (tmp_path / "o").read_bytes() == CONTENT
    assert len(store.requests) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        lambda start: (206, {"Content-Range": f"bytes 0-{start}/{len(CONTENT)}"}, CONTENT[: start + 1]),
        lambda start: (206, {}, CONTENT[start:]),
        lambda start: (206, {"Content-Range": "nonsense"}, CONTENT[start:]),
        lambda start: (
            206,
            {"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}", "ETag": '"v9"'},
            os.urandom(len(CONTENT) - start),
        ),
        lambda start: (
            206,
            {"Content-Range": f"bytes {start}-{start + 8}/{len(CONTENT)}"},
            CONTENT[start : start + 9],
        ),
        lambda start: (416, {"Content-Range": "bytes */5"}, b""),
    ],
    ids=["other-range", "no-range", "odd-range", "other-version", "short-rest", "not-satisfiable"],
)
def test_a_wrong_answer_to_a_range_starts_the_download_again(
    store: Store, tmp_path: Path, wrong: Callable[[int], tuple[int, dict[str, str], bytes]]
) -> None:
    """A rest that is not the rest that was asked for is not glued to the file."""
    store.cut, store.range_answer = [200_000], wrong
    get(store.url, tmp_path / "o")

    assert (tmp_path / "o").read_bytes() == CONTENT
    assert store.ranges_asked == [None, "bytes=200000-", None]


def test_a_download_that_always_ends_early_is_truncated(store: Store, tmp_path: Path) -> None:
    """A store that keeps ending before the announced length gives an error and no file."""
    store.ranges, store.cut = False, [1_000] * 10
    with pytest.raises(Truncated, match="before the length that was announced"):
        get(store.url, tmp_path / "o", tries=3)

    assert not (tmp_path / "o").exists()
    assert len(store.requests) <= 5


def test_a_length_that_nobody_tells_is_not_believed(tmp_path: Path) -> None:
    """A body that ends with its connection could be cut anywhere, so it is not whole; chunks tell."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/o?s={SECRET}"
        answers = [
            b"HTTP/1.1 200 OK\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ]

        def reply() -> None:
            for content in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(content)

        threading.Thread(target=reply, daemon=True).start()
        with pytest.raises(Truncated, match="does not say how long"):
            get(url, tmp_path / "o", tries=0)
        get(url, tmp_path / "o", tries=1)

    assert (tmp_path / "o").read_bytes() == b"hello"


def test_an_expired_address_is_exchanged_in_mid_download(store: Store, tmp_path: Path) -> None:
    """An address that ends in mid-download is exchanged, and the file goes on from the byte reached."""
    store.cut = [200_000]
    store.before = lambda: store.refuse.append((403, b"")) if len(store.requests) == 2 else None
    asked: list[int] = []

    def refresh() -> str:
        asked.append(len(store.requests))
        return store.url.replace(SECRET, "another")

    get(store.url, tmp_path / "o", refresh=refresh)

    assert (tmp_path / "o").read_bytes() == CONTENT
    assert asked == [2]
    assert store.ranges_asked == [None, "bytes=200000-", "bytes=200000-"]
    assert "another" in store.requests[2][0]


def test_an_expired_address_without_refresh_is_link_refused(store: Store, tmp_path: Path) -> None:
    """Nobody to ask for a new address: the refusal is the answer, at once."""
    store.refuse = [(403, b"<Code>AccessDenied</Code><Message>Request has expired</Message>")]
    with pytest.raises(LinkRefused, match="Request has expired"):
        get(store.url, tmp_path / "o")
    assert len(store.requests) == 1


def test_a_fresh_address_that_is_refused_ends_the_download(store: Store, tmp_path: Path) -> None:
    """New addresses are not asked for without end."""
    store.refuse = [(403, b"")] * 5
    with pytest.raises(LinkRefused):
        get(store.url, tmp_path / "o", refresh=lambda: store.url)
    assert len(store.requests) == 2


def test_a_file_that_is_packed_on_the_way_is_unpacked(store: Store, tmp_path: Path) -> None:
    """Some proxies pack what they pass on; the file is as it was, also after a connection that broke."""
    store.packed, store.cut = True, [1000]
    get(store.url, tmp_path / "o")
    assert (tmp_path / "o").read_bytes() == CONTENT


def test_a_busy_store_is_asked_again_and_then_given_up(store: Store, tmp_path: Path) -> None:
    """A burst of 500, 502 and 503 is waited out; an endless one is ConnectionFailed; a 404 is neither."""
    html = b"<html><head><title>502 Bad Gateway</title></head></html>"
    store.refuse = [(500, html), (502, html), (503, b"")]
    get(store.url, tmp_path / "o", tries=3)
    assert (tmp_path / "o").read_bytes() == CONTENT

    store.refuse = [(503, html)] * 9
    with pytest.raises(ConnectionFailed, match="503"):
        get(store.url, tmp_path / "o", tries=2)
    store.refuse = [(404, b"<Code>NoSuchKey</Code>")]
    before = len(store.requests)
    with pytest.raises(TransferError, match="NoSuchKey"):
        get(store.url, tmp_path / "o")
    assert len(store.requests) == before + 1


def test_a_callback_that_fails_shows_its_own_error(store: Store, tmp_path: Path, part: Path) -> None:
    """An exception of the caller's is neither caught nor taken for the network's."""

    def fail(*_: int) -> None:
        raise OSError("disk full, say")

    with pytest.raises(OSError, match="disk full, say"):
        get(store.url, tmp_path / "o", on_progress=fail)


@given(st.lists(st.integers(0, 9_999), max_size=6), st.booleans(), st.sampled_from(['"v1"', None]))
@settings(max_examples=25, deadline=None)
def test_any_pattern_of_cuts_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], ranges: bool, etag: str | None
) -> None:
    """Wherever, and however often, connections end: the file is exact."""
    store = Store()
    store.content, store.cut, store.ranges, store.etag = CONTENT[:10_000], list(cuts), ranges, etag
    path = tmp_path_factory.mktemp("cuts") / "o"
    get(store.url, path, tries=8)
    store.server.shutdown()
    store.server.server_close()

    assert path.read_bytes() == CONTENT[:10_000]


# Secrets and safety


def test_no_log_message_or_traceback_holds_the_signature(
    tmp_path: Path, part: Path, caplog: pytest.LogCaptureFixture, store: Store
) -> None:
    """Every way to fail, with every logger at DEBUG: the query of the address is nowhere to be seen."""
    caplog.set_level(logging.DEBUG)
    nobody = socket.socket()  # a port that is taken, and answers nothing
    nobody.bind(("127.0.0.1", 0))
    closed = nobody.getsockname()[1]
    path = f"/bucket/part.jsonl?X-Signature={SECRET}"
    shown: list[str] = []
    with nobody, Proxy(store.origin) as proxy:
        faults = (
            Fault(reset_up=1, times=2),
            Fault(lose_answer=True, times=2),
            Fault(stall_down=0, times=2),
            Fault(canned=b"HTTP/1.1 500 Oh\r\nBroken header\r\n: x\r\n\r\n", times=2),
            Fault(canned=b"garbage\r\n\r\n", times=2),
            Fault(canned=answer(403, S3_REFUSAL), times=2),
            Fault(canned=answer(502, f"<html>cannot reach {proxy.url}{path} or {path}</html>"), times=2),
            Fault(canned=answer(302, "", {"Location": f"http://elsewhere.example{path}"}), times=2),
        )
        proxy.add(*faults)
        origins = [proxy.url] * len(faults) + [
            f"http://127.0.0.1:{closed}",
            "http://nobody.invalid",
            "https://127.0.0.1:1",
            "ftp://x",
            "http://[::1",
            "http://127.0.0.1:99999",
            "http://127.0.0.1\n:1",
        ]
        for origin in origins:
            for move in (upload, get):
                options = {"tries": 0} if move is get else {}
                with pytest.raises(DobatchError) as caught:
                    move(origin + path, part, network=QUICK, **options)
                assert caught.value.__context__ is None
                shown += traceback.format_exception(caught.value)
    written = "\n".join(
        [*shown, *(record.getMessage() + str(record.args) for record in caplog.records), caplog.text]
    )

    assert SECRET not in written
    assert "X-Signature" not in written


def test_plain_http_to_another_machine_is_refused(part: Path) -> None:
    """Data does not travel readable unless somebody says that it may."""
    with pytest.raises(ConfigurationError, match="plain http") as caught:
        upload(f"http://store.example/x?s={SECRET}", part)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "origin", ["http://localhost:1", "http://127.8.9.1:1", "http://[::1]:1", "http://a.localhost:1"]
)
def test_plain_http_to_this_machine_is_fine(part: Path, origin: str) -> None:
    """This machine may be spoken to plainly under any of its names."""
    with pytest.raises(ConnectionFailed):
        upload(f"{origin}/x", part, network=QUICK)


def test_the_proxy_of_the_environment_is_used_but_not_for_this_machine(
    store: Store, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A company's proxy carries transfers, with its own password only; the loopback takes none."""
    with Proxy(store.origin) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("http://", "http://me:pa%20ss@"))
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://me:pa%20ss@"))
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        upload(store.url, part)
        assert proxy.connections == []

        upload("http://store.example/a?s=1", part, network=Network(allow_http=True))
        assert store.requests[-1][0] == "PUT http://store.example/a?s=1 HTTP/1.1"
        assert store.requests[-1][1]["Host"] == "store.example"
        headers = {name.lower(): text for name, text in store.requests[-1][1].items()}
        assert headers["proxy-authorization"] == "Basic bWU6cGEgc3M="
        with pytest.raises(ConnectionFailed, match=r"storage at store\.example"):
            upload(f"https://store.example/a?s={SECRET}", part, network=QUICK)
        assert proxy.requests[-1].startswith(b"CONNECT store.example:443 HTTP/1.")
        assert SECRET.encode() not in proxy.requests[-1]

        monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1")
        with pytest.raises(ConfigurationError, match="HTTPS_PROXY"):
            upload("https://store.example/a", part)


def test_https_is_verified(store: Store, part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that nobody vouches for ends the transfer; an authority in the environment helps."""
    trustme = pytest.importorskip("trustme")
    import ssl

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    store.server.socket = context.wrap_socket(store.server.socket, server_side=True)
    url = store.url.replace("http://", "https://")
    with pytest.raises(ConnectionFailed, match="its certificate cannot be verified"):
        upload(url, part)

    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    upload(url, part)
    get(url, tmp_path / "o")
    assert store.received == (tmp_path / "o").read_bytes() == CONTENT


@given(st.text(max_size=400))
@settings(max_examples=100)
def test_scrub_gives_one_short_printable_line(text: str) -> None:
    """Whatever somebody else's server says fits into one line, without markup and secrets."""
    clean = scrub(f"{text} https://store.example/x?X-Signature={SECRET} {text}", SECRET)

    assert SECRET not in clean
    assert len(clean) <= 300
    assert clean.isprintable()
