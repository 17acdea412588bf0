"""The token and presigned queries: where they go, and all the places where they must never be."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from proxy import Fault, Proxy, answer

from dobatch_pandas import config
from dobatch_pandas.errors import ApiError, ConfigurationError, ConnectionFailed, DobatchError
from dobatch_pandas.server import LocalServer
from dobatch_pandas.service.client import Client

TOKEN = "dop_v1_s3cr3t_t0ken"
SIGNATURE = "s1gnatur3"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def proxy(stack: ExitStack) -> Proxy:
    server = stack.enter_context(LocalServer(rate_limit=None))
    return stack.enter_context(Proxy(server.url))


@pytest.fixture
def connect(stack: ExitStack) -> Callable[..., Client]:
    def start(url: str, token: Any = TOKEN, **options: Any) -> Client:
        options = {"timeout": 0.5, "connect_timeout": 0.5, "backoff": 0.001, "retries": 1, **options}
        return stack.enter_context(Client(token, url, **options))

    return start


def part(folder: Path) -> Path:
    path = folder / "part-00000.jsonl"
    body = {"model": "m", "messages": []}
    path.write_text(
        json.dumps({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n"
    )
    return path


def test_the_token_goes_with_calls_and_never_with_bytes(
    proxy: Proxy, connect: Callable[..., Client], tmp_path: Path
) -> None:
    """Every call to the service has the token, and no upload or download has any credentials."""
    client = connect(proxy.url, timeout=5.0)
    file_id = client.send_file(part(tmp_path))
    batch = client.create_batch(file_id, provider="openai", endpoint="/v1/chat/completions", request_id="r")
    while not client.get_batch(batch.batch_id).terminal:
        pass
    links = client.get_results(batch.batch_id)
    client.download(links.output_url or links.error_url or "", tmp_path / "o")

    heads = [request.partition(b"\r\n\r\n")[0].lower() for request in proxy.requests]
    moves = [head for head in heads if b" /storage/" in head.split(b"\r\n")[0]]
    assert len(moves) == 2
    assert not any(word in head for head in moves for word in (b"authorization", b"cookie", TOKEN.encode()))
    calls = [head for head in heads if head not in moves]
    assert calls
    assert all(b"authorization: bearer " + TOKEN.encode() in head for head in calls)
    assert b"transfer-encoding" not in b"".join(heads)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(proxy: Proxy, connect: Callable[..., Client], status: int) -> None:
    """Whoever answers with a redirect does not get the token sent anywhere; the error says what happened."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        place = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/v1/batches?stolen={SIGNATURE}"
        proxy.add(Fault("GET ", canned=answer(status, "moved", {"Location": place})))
        with pytest.raises(
            ApiError, match=r"redirects to 127\.0\.0\.1, where the token must not go"
        ) as caught:
            connect(proxy.url).list_batches()
        elsewhere.settimeout(0.1)
        with pytest.raises(TimeoutError):
            elsewhere.accept()
    assert SIGNATURE not in str(caught.value)


def test_a_netrc_does_not_replace_the_token(
    proxy: Proxy, connect: Callable[..., Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ``.netrc`` for the host is not used: the token that was given is the one that is sent."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password theirs\ndefault login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    connect(proxy.url).list_batches()

    assert f"Authorization: Bearer {TOKEN}".encode() in proxy.requests[0]
    assert b"Basic" not in proxy.requests[0]


def test_cookies_are_not_kept(proxy: Proxy, connect: Callable[..., Client]) -> None:
    """Nothing that a server asks to be told again is told again."""
    proxy.add(Fault("GET ", canned=answer(200, {"data": []}, {"Set-Cookie": "session=1; Path=/"})))
    client = connect(proxy.url)
    client.list_batches()
    client.list_batches()

    assert b"cookie" not in b"".join(proxy.requests).lower()


def test_the_proxy_of_the_environment_is_not_used_for_this_machine(
    proxy: Proxy, connect: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token for a server on this machine does not travel by the company's proxy."""
    with socket.create_server(("127.0.0.1", 0)) as company:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{company.getsockname()[1]}")
        connect(proxy.url).list_batches()
        company.settimeout(0.1)
        with pytest.raises(TimeoutError):
            company.accept()


def test_a_token_over_a_company_proxy_is_inside_the_tunnel(
    connect: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy is told the host that is wanted, and nothing else."""
    told: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as company:

        def listen() -> None:
            connection, _ = company.accept()
            with connection:
                told.append(connection.recv(1 << 16))
                connection.sendall(answer(407, "who are you?"))

        thread = threading.Thread(target=listen)
        thread.start()
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{company.getsockname()[1]}")
        with pytest.raises(ConnectionFailed, match="the proxy did not let it through"):
            connect("https://inference.example", retries=0).list_batches()
        thread.join(5)

    assert told[0].startswith(b"CONNECT inference.example:443 ")
    assert TOKEN.encode() not in told[0]


def test_nothing_that_is_written_holds_a_secret(
    proxy: Proxy, connect: Callable[..., Client], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every call fails in every way, all loggers at DEBUG: no token, no signature in what is written."""
    caplog.set_level(logging.DEBUG)
    echo = f"Bearer {TOKEN} may not PUT https://store.example/x?X-Signature={SIGNATURE}"
    client = connect(proxy.url, retries=0)
    path = part(tmp_path)
    signed = f"/storage/inputs/x.jsonl?X-Signature={SIGNATURE}"
    calls: tuple[Callable[[str], Any], ...] = (
        lambda _: client.create_file("x-1.jsonl"),
        lambda _: client.create_batch("f", provider="openai", endpoint="/v1/responses", request_id="r"),
        lambda _: client.list_batches(),
        lambda _: client.get_batch("b"),
        lambda _: client.cancel_batch("b"),
        lambda _: client.get_results("b"),
        lambda _: client.infer("/v1/responses", {}, provider="openai"),
        lambda origin: client.upload(origin + signed, path),
        lambda origin: client.download(origin + signed, tmp_path / "o"),
        lambda origin: client.download(origin + signed, tmp_path / "o", refresh=lambda: origin + signed),
    )
    faults = (
        Fault(reset_up=1),
        Fault(lose_answer=True),
        Fault(stall_down=0),
        Fault(close_down=30),
        Fault(canned=b"nonsense\r\n\r\n"),
        Fault(canned=answer(401, {"message": echo, "id": TOKEN, "request_id": TOKEN})),
        Fault(canned=answer(403, f"<html><body>{echo}</body></html>")),
        Fault(canned=answer(500, {"error": {"message": echo}})),
        Fault(canned=answer(302, echo, {"Location": f"https://x.example/{signed}"})),
        Fault(canned=answer(429, echo)),
    )
    written: list[str] = [repr(client), repr(vars(client)), str(client)]
    for fault in faults:
        for call in calls:
            # Storage was never told the token, so it cannot quote it.
            told = {"canned": fault.canned and fault.canned.replace(TOKEN.encode(), b"x" * len(TOKEN))}
            proxy.clear()
            proxy.add(replace(fault, request="PUT /storage", times=9, **told))
            proxy.add(replace(fault, request="GET /storage", times=9, **told), replace(fault, times=9))
            with pytest.raises(DobatchError) as caught:
                call(proxy.url)
            written += traceback.format_exception(caught.value)
            written.append(repr(pickle.dumps(caught.value)))
            assert caught.value.__context__ is None
    written += [f"{record.getMessage()} {record.args!r} {record.exc_text}" for record in caplog.records]
    everything = "\n".join([*written, caplog.text])

    assert len(written) > 100
    assert TOKEN not in everything
    assert SIGNATURE not in everything


@pytest.mark.parametrize(
    "token",
    ["two words", "line\nbreak", "quoted”", "\x00", "tab\tbed", "naïve"],
)
def test_a_token_that_cannot_be_one_is_refused_without_being_shown(
    connect: Callable[..., Client], token: str
) -> None:
    """A token pasted with something around it is an error that does not repeat it."""
    with pytest.raises(ConfigurationError) as caught:
        connect("https://inference.example", token)
    assert token not in str(caught.value)


@pytest.mark.parametrize("token", ["", "  \n", None])
def test_no_token_names_the_cure(connect: Callable[..., Client], token: str | None, monkeypatch: Any) -> None:
    """Without a token, the error says where to put one, before anything is sent."""
    for name in config.TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(config, "_chosen", config._Chosen())
    with pytest.raises(ConfigurationError, match=r"configure\(token=.*DIGITALOCEAN_TOKEN"):
        connect("https://inference.example", token)


def test_a_token_with_space_around_it_is_taken(proxy: Proxy, connect: Callable[..., Client]) -> None:
    """The line break of a pasted token does no harm, and a callable is asked at every call."""
    connect(proxy.url, f" {TOKEN}\n").list_batches()
    assert f"Bearer {TOKEN}\r\n".encode() in proxy.requests[0]

    tokens = iter(["t-1", "t-2"])
    client = connect(proxy.url, lambda: next(tokens))
    client.list_batches()
    client.list_batches()
    assert b"Bearer t-1\r\n" in proxy.requests[1]
    assert b"Bearer t-2\r\n" in proxy.requests[1]


def test_a_client_travels_without_its_token(
    proxy: Proxy, connect: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pickled client keeps its address and options; the token is the other process's own."""
    client = connect(proxy.url, timeout=7.0)
    travelled = pickle.dumps(client)
    monkeypatch.setattr(config, "_chosen", config._Chosen())
    arrived = pickle.loads(travelled)

    assert TOKEN.encode() not in travelled
    assert arrived.base_url == proxy.url
    assert arrived._options == client._options
    with pytest.raises(ConfigurationError, match="no token"):
        arrived.list_batches()
    config.configure(token="of-the-other-process")
    arrived.list_batches()
    assert b"Bearer of-the-other-process" in proxy.requests[-1]
    assert repr(copy.copy(client)) == repr(client) == f"Client(base_url='{proxy.url}')"
