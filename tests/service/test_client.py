"""The client, over real sockets: the embedded server behind it, and a proxy that breaks things in between."""

from __future__ import annotations

import json
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from proxy import Fault, Proxy, answer
from waiting import eventually

from dobatch_pandas import config
from dobatch_pandas.errors import (
    ApiError,
    BadRequest,
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    Forbidden,
    InputError,
    LinkRefused,
    NotFound,
    NotReady,
    ServerError,
    TooManyRequests,
    Unauthorized,
)
from dobatch_pandas.server import LocalServer
from dobatch_pandas.service.client import Client
from dobatch_pandas.service.wire import Batch

TOKEN = "dop_v1_s3cr3t"
CHAT = "/v1/chat/completions"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(stack: ExitStack) -> Callable[..., LocalServer]:
    def start(**options: Any) -> LocalServer:
        options.setdefault("rate_limit", None)
        return stack.enter_context(LocalServer(**options))

    return start


@pytest.fixture
def server(serve: Callable[..., LocalServer]) -> LocalServer:
    return serve()


@pytest.fixture
def proxy(server: LocalServer, stack: ExitStack) -> Proxy:
    return stack.enter_context(Proxy(server.url))


@pytest.fixture
def connect(stack: ExitStack) -> Callable[..., Client]:
    def start(url: str, token: Any = TOKEN, **options: Any) -> Client:
        options = {"backoff": 0.001, **options}
        return stack.enter_context(Client(token, url, **options))

    return start


def openai_part(folder: Path, rows: int = 20) -> Path:
    path = folder / "part-00000.jsonl"
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    lines = [
        json.dumps({"custom_id": f"row-{row}", "method": "POST", "url": CHAT, "body": body})
        for row in range(rows)
    ]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def anthropic_part(folder: Path, rows: int = 20) -> Path:
    path = folder / "part-00000.jsonl"
    params = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    path.write_text(
        "".join(json.dumps({"custom_id": f"row-{row}", "params": params}) + "\n" for row in range(rows))
    )
    return path


def ended(client: Client, batch: Batch) -> Batch:
    eventually(lambda: client.get_batch(batch.batch_id).terminal)
    return client.get_batch(batch.batch_id)


# The seven operations


@pytest.mark.parametrize("wire", ["A", "B"])
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_the_operations_carry_a_file_there_and_its_answers_back(
    serve: Callable[..., LocalServer],
    connect: Callable[..., Client],
    tmp_path: Path,
    wire: Any,
    provider: Any,
) -> None:
    """A file goes up, a batch runs, is listed and polled, and every answer comes down."""
    client = connect(serve(wire=wire).url)
    path = openai_part(tmp_path) if provider == "openai" else anthropic_part(tmp_path)
    endpoint = CHAT if provider == "openai" else None
    intents: list[Any] = []

    file_id = client.send_file(path, on_intent=intents.append)
    batch = client.create_batch(
        file_id, provider=provider, endpoint=endpoint, request_id="r-1", metadata={"team": "blue"}
    )
    done = ended(client, batch)
    links = client.get_results(batch.batch_id)
    assert links.output_url
    client.download(links.output_url, tmp_path / "output.jsonl")

    assert [intent.file_id for intent in intents] == [file_id]
    assert (done.status, done.input_file_id, done.request_id, done.provider) == (
        "completed",
        file_id,
        "r-1",
        provider,
    )
    assert (done.counts.total, done.counts.completed) == (20, 20)
    assert [item.batch_id for item in client.iter_batches()] == [batch.batch_id]
    answered = [
        json.loads(line)["custom_id"]
        for line in (tmp_path / "output.jsonl").read_bytes().split(b"\n")
        if line
    ]
    assert sorted(answered) == sorted(f"row-{row}" for row in range(20))


@pytest.mark.parametrize("wire", ["A", "B"])
def test_a_batch_can_be_cancelled_more_than_once(
    serve: Callable[..., LocalServer], connect: Callable[..., Client], tmp_path: Path, wire: Any
) -> None:
    """Cancelling starts the end of a batch; again, it tells the state; a completed batch is a Conflict."""
    client = connect(serve(wire=wire, latency=0.2, concurrency=1).url)
    part = openai_part(tmp_path)
    batch = client.create_batch(client.send_file(part), provider="openai", endpoint=CHAT, request_id="r")

    assert client.cancel_batch(batch.batch_id).status in ("cancelling", "cancelled")
    assert ended(client, batch).status == "cancelled"
    assert client.cancel_batch(batch.batch_id).status == "cancelled"

    client = connect(serve(wire=wire).url)
    batch = client.create_batch(client.send_file(part), provider="openai", endpoint=CHAT, request_id="r")
    ended(client, batch)
    with pytest.raises(Conflict, match="cannot be cancelled"):
        client.cancel_batch(batch.batch_id)


@pytest.mark.parametrize(("wire", "not_ready"), [("A", "flag"), ("A", "412"), ("B", "412")])
def test_results_that_are_not_there_yet_are_no_error(
    serve: Callable[..., LocalServer],
    connect: Callable[..., Client],
    tmp_path: Path,
    wire: Any,
    not_ready: Any,
) -> None:
    """Asked too early, in each way that a service says so: ``available`` is False."""
    client = connect(serve(wire=wire, not_ready=not_ready, latency=1.0, concurrency=1).url)
    file_id = client.send_file(openai_part(tmp_path))
    batch = client.create_batch(file_id, provider="openai", endpoint=CHAT, request_id="r")

    links = client.get_results(batch.batch_id)
    assert (links.batch_id, links.available, links.output_url) == (batch.batch_id, False, None)
    client.cancel_batch(batch.batch_id)


@pytest.mark.parametrize("wire", ["A", "B"])
def test_the_list_is_walked_page_by_page(
    serve: Callable[..., LocalServer], connect: Callable[..., Client], tmp_path: Path, wire: Any
) -> None:
    """Every batch comes once, newest first, however small the pages; a limit and a status are kept to."""
    server = serve(wire=wire)
    client = connect(server.url)
    file_id = client.send_file(openai_part(tmp_path, rows=1))
    made = [
        client.create_batch(file_id, provider="openai", endpoint=CHAT, request_id=f"r-{number}").batch_id
        for number in range(7)
    ]
    for batch_id in made:
        ended(client, client.get_batch(batch_id))
    walked, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = client.list_batches(limit=3, after=cursor)
        walked += [batch.batch_id for batch in page.batches]
        cursor, pages = page.next_cursor, pages + 1

    assert walked == made[::-1]
    assert pages == 3
    assert [batch.batch_id for batch in client.iter_batches(limit=4)] == made[:2:-1]
    assert len(list(client.iter_batches(status="completed"))) == 7
    assert list(client.iter_batches(status="failed")) == []
    assert list(client.iter_batches(limit=0)) == []


def test_a_service_that_does_not_know_cursors_or_filters_is_walked_once(
    proxy: Proxy, connect: Callable[..., Client]
) -> None:
    """A list that always says there is more ends; a status that the service cannot filter by is, here."""
    batches = [{"batch_id": "b-1", "status": "failed"}, {"batch_id": "b-2", "status": "completed"}]
    endless = answer(200, {"data": batches, "has_more": True, "last_id": "b-2"})
    proxy.add(
        Fault(
            "GET /v1/batches?limit=100&status=", canned=answer(400, {"message": "unknown: status"}), times=9
        )
    )
    proxy.add(
        Fault(
            "GET /v1/batches?limit=100&after=b-2&status=", canned=answer(422, {"message": "status?"}), times=9
        )
    )
    proxy.add(Fault("GET /v1/batches", canned=endless, times=9))
    client = connect(proxy.url)

    assert [batch.batch_id for batch in client.iter_batches()] == ["b-1", "b-2"]
    assert [batch.batch_id for batch in client.iter_batches(status="failed")] == ["b-1"]


@pytest.mark.parametrize("rule", ["either", "openai_only", "always"])
def test_anthropic_batches_suit_each_idea_of_endpoint(
    serve: Callable[..., LocalServer], connect: Callable[..., Client], tmp_path: Path, rule: Any
) -> None:
    """Whether the service forbids an endpoint for this provider or demands one, the batch is created."""
    client = connect(serve(endpoint_rule=rule).url)
    file_id = client.send_file(anthropic_part(tmp_path))
    batch = client.create_batch(file_id, provider="anthropic", endpoint="/v1/messages", request_id="r")

    assert ended(client, batch).status == "completed"


def test_infer_answers_at_once(server: LocalServer, connect: Callable[..., Client]) -> None:
    """One request is answered synchronously, on the same host."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
    client = connect(server.url)

    assert client.infer(CHAT, body, provider="openai")["choices"]
    assert client.infer("/v1/messages", body, provider="anthropic")["content"]


def test_input_that_cannot_be_right_is_refused_before_it_is_sent(
    server: LocalServer, connect: Callable[..., Client], tmp_path: Path
) -> None:
    """Bad names, limits, ids and files cost no call."""
    client = connect(server.url)
    for call in (
        lambda: client.create_file("x.json"),
        lambda: client.create_file(".jsonl"),
        lambda: client.list_batches(limit=0),
        lambda: client.list_batches(limit=101),
        lambda: client.get_batch(""),
        lambda: client.cancel_batch(".."),
    ):
        with pytest.raises(InputError):
            call()
    with pytest.raises(FileNotFoundError):
        client.send_file(tmp_path / "nothing.jsonl")
    assert server.calls == []
    with pytest.raises(NotFound):
        client.get_batch("a/../b?c#d")


# Sending files


def test_send_file_falls_back_to_the_documented_type(
    serve: Callable[..., LocalServer], connect: Callable[..., Client], tmp_path: Path
) -> None:
    """Where the address was signed for the older type, a new one is asked for and that type is sent."""
    server = serve(upload_type="application/jsonl")
    client = connect(server.url)
    intents: list[Any] = []
    file_id = client.send_file(openai_part(tmp_path), on_intent=intents.append)

    assert server.calls == ["create_file", "upload", "create_file", "upload"]
    assert [intent.file_id for intent in intents][-1] == file_id
    assert client.create_batch(file_id, provider="openai", endpoint=CHAT, request_id="r").batch_id


@pytest.mark.parametrize(
    "fault",
    [
        Fault(reset_up=1),
        Fault(reset_up=20_000),
        Fault(lose_answer=True),
        Fault(stall_down=0),
        Fault(close_down=0),
    ],
    ids=["before", "during", "after", "stall", "closed"],
)
def test_send_file_starts_anew_where_an_upload_breaks(
    proxy: Proxy, connect: Callable[..., Client], tmp_path: Path, fault: Fault
) -> None:
    """An upload that breaks anywhere is made again, to a new address, and the file is whole."""
    # Short where it is waited for; a machine that is busy for so long costs another try.
    client = connect(proxy.url, timeout=60.0 if fault.stall_down is None else 0.5, retries=30)
    proxy.add(replace(fault, request="PUT ", times=2))
    path = openai_part(tmp_path, rows=500)
    file_id = client.send_file(path)
    batch = client.create_batch(file_id, provider="openai", endpoint=CHAT, request_id="r")

    assert ended(client, batch).counts.total == 500


def test_an_upload_address_that_expired_is_exchanged(
    serve: Callable[..., LocalServer], connect: Callable[..., Client], tmp_path: Path
) -> None:
    """An upload address that is refused as expired, at once or in mid-upload, costs one more address."""
    server = serve()
    client = connect(server.url)
    server.faults.add("upload", expire=True)
    assert client.send_file(openai_part(tmp_path))
    server.faults.add("upload", cut=100, expire=True)
    assert client.send_file(openai_part(tmp_path))

    assert server.calls.count("create_file") == 4


def test_addresses_that_are_always_refused_end_in_link_refused(
    serve: Callable[..., LocalServer], connect: Callable[..., Client], tmp_path: Path
) -> None:
    """Storage that accepts neither type is not asked without end."""
    server = serve(upload_type="text/plain")
    with pytest.raises(LinkRefused, match="SignatureDoesNotMatch"):
        connect(server.url).send_file(openai_part(tmp_path))
    assert server.calls.count("upload") == 3


def test_addresses_that_come_expired_are_exchanged_a_few_times(
    serve: Callable[..., LocalServer], connect: Callable[..., Client], tmp_path: Path
) -> None:
    """Addresses whose time is over when they arrive are asked for again, within reason."""
    server = serve(url_lifetime=1e-6)
    with pytest.raises(LinkRefused, match="expired"):
        connect(server.url, retries=3).send_file(openai_part(tmp_path))
    assert server.calls.count("upload") == 4


def test_upload_repeats_a_broken_connection(
    proxy: Proxy, connect: Callable[..., Client], tmp_path: Path
) -> None:
    """The plain operation repeats too, to the same address, and lets a refusal through."""
    client, path = connect(proxy.url), openai_part(tmp_path)
    intent = client.create_file("part.jsonl")
    proxy.add(Fault("PUT ", reset_up=1, times=2))
    client.upload(intent.upload_url, path)
    with pytest.raises(LinkRefused):
        client.upload(intent.upload_url + "0", path)


def test_a_download_address_that_expires_is_exchanged(
    server: LocalServer, connect: Callable[..., Client], tmp_path: Path
) -> None:
    """A link that ends in mid-download is exchanged for a new one, and the file goes on by Range."""
    client = connect(server.url)
    file_id = client.send_file(openai_part(tmp_path, rows=2_000))
    batch = ended(client, client.create_batch(file_id, provider="openai", endpoint=CHAT, request_id="r"))
    url = client.get_results(batch.batch_id).output_url or ""
    client.download(url, tmp_path / "whole")
    server.faults.add("download", cut=100_000, expire=True)
    received: list[int] = []
    client.download(
        url,
        tmp_path / "exchanged",
        on_progress=lambda size, total: received.append(size),
        refresh=lambda: client.get_results(batch.batch_id).output_url or "",
    )

    assert (tmp_path / "exchanged").read_bytes() == (tmp_path / "whole").read_bytes()
    assert received == sorted(received)
    with pytest.raises(LinkRefused):
        client.download(url, tmp_path / "gone")


# Faults on the wire

CALLS: dict[str, tuple[str, Callable[[Client, str, str], Any]]] = {
    "create_file": ("POST /v1/batches/files", lambda client, *_: client.create_file("x-1.jsonl")),
    "create_batch": (
        "POST /v1/batches ",
        lambda client, file_id, _: client.create_batch(
            file_id, provider="openai", endpoint=CHAT, request_id="new"
        ),
    ),
    "list_batches": ("GET /v1/batches?", lambda client, *_: client.list_batches()),
    "get_batch": ("GET /v1/batches/", lambda client, _, batch_id: client.get_batch(batch_id)),
    "cancel_batch": ("POST /v1/batches/", lambda client, _, batch_id: client.cancel_batch(batch_id)),
    "get_results": ("GET /v1/batches/", lambda client, _, batch_id: client.get_results(batch_id)),
}
HTML = "<html><head><style>b{}</style><title>502</title></head><body><h1>Bad&nbsp;Gateway</h1></body></html>"
TROUBLE = {
    "reset before": Fault(reset_up=1),
    "reset during": Fault(reset_up=150),
    "answer lost": Fault(lose_answer=True),
    "reset in the answer": Fault(reset_down=60),
    "closed without a word": Fault(close_down=0),
    "closed in the answer": Fault(close_down=190),
    "stall": Fault(stall_down=0),
    "stall in the answer": Fault(stall_down=170),
    "500": Fault(canned=answer(500, {"id": "server_error", "message": "oops"})),
    "502 html": Fault(canned=answer(502, HTML)),
    "503 nothing": Fault(canned=answer(503)),
    "504": Fault(canned=answer(504, HTML)),
    "408": Fault(canned=answer(408)),
    "425": Fault(canned=answer(425)),
    "429": Fault(canned=answer(429, {"id": "too_many_requests", "message": "slow down"})),
    "garbage": Fault(canned=b"\x00\x01\x02 not http\r\n\r\n"),
}


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("operation", CALLS)
def test_every_call_gets_through_every_trouble(
    serve: Callable[..., LocalServer],
    stack: ExitStack,
    connect: Callable[..., Client],
    tmp_path: Path,
    operation: str,
    trouble: str,
) -> None:
    """Each call, each fault, twice in a row: the call succeeds, and whatever it makes is made once."""
    server = serve()
    if operation == "cancel_batch":
        server.hold()
    proxy = stack.enter_context(Proxy(server.url))
    direct = connect(server.url)
    file_id = direct.send_file(openai_part(tmp_path, rows=1))
    batch = direct.create_batch(file_id, provider="openai", endpoint=CHAT, request_id="old")
    if operation == "get_results":
        ended(direct, batch)
    begin, call = CALLS[operation]
    fault = TROUBLE[trouble]
    proxy.add(replace(fault, request=begin, times=2))

    # Short where it is waited for; a machine that is busy for so long costs another try.
    timeout = 60.0 if fault.stall_down is None else 0.3
    call(connect(proxy.url, timeout=timeout, retries=30), file_id, batch.batch_id)

    assert len(proxy.connections) >= 3
    assert len(list(direct.iter_batches())) == (2 if operation == "create_batch" else 1)


def test_a_batch_whose_answer_was_lost_is_created_once(
    server: LocalServer, proxy: Proxy, connect: Callable[..., Client], tmp_path: Path
) -> None:
    """The server acts, the answer is lost, the call is repeated: one batch, and its id is the answer."""
    client = connect(proxy.url)
    file_id = client.send_file(openai_part(tmp_path))
    proxy.add(Fault("POST /v1/batches ", lose_answer=True, times=3))
    batch = client.create_batch(file_id, provider="openai", endpoint=CHAT, request_id="r-1")

    assert server.calls.count("create_batch") == 4
    assert [item.batch_id for item in client.iter_batches()] == [batch.batch_id]
    ended(client, batch)
    assert max(server.executed.values()) == 1


def test_many_threads_share_a_client_through_a_bad_line(
    server: LocalServer, stack: ExitStack, connect: Callable[..., Client], tmp_path: Path
) -> None:
    """Eight threads, one connection in five reset: every call succeeds, no batch is made twice."""
    proxy = stack.enter_context(Proxy(server.url, reset_share=0.2))
    client = connect(proxy.url, retries=30)  # the same call may meet the bad ones of several threads
    part = openai_part(tmp_path, rows=2)
    made: list[str] = []

    def work(number: int) -> None:
        for turn in range(4):
            file_id = client.send_file(part)
            batch = client.create_batch(
                file_id, provider="openai", endpoint=CHAT, request_id=f"{number}-{turn}"
            )
            made.append(client.get_batch(batch.batch_id).batch_id)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == len(set(made)) == 32
    assert len(list(client.iter_batches())) == 32
    assert proxy.resets > 3


def test_infer_is_not_repeated_where_it_may_have_run(
    server: LocalServer, proxy: Proxy, connect: Callable[..., Client]
) -> None:
    """A paid call whose fate is unknown is not made again; one that was turned away is."""
    client = connect(proxy.url)
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    proxy.add(Fault("POST /v1/chat", lose_answer=True), Fault("POST /v1/chat", canned=answer(500)))
    with pytest.raises(ConnectionFailed):
        client.infer(CHAT, body, provider="openai")
    with pytest.raises(ServerError):
        client.infer(CHAT, body, provider="openai")
    assert server.calls == ["infer"]

    proxy.add(Fault("POST /v1/chat", canned=answer(429), times=2))
    assert client.infer(CHAT, body, provider="openai")
    assert server.calls == ["infer", "infer"]


def test_nobody_there_is_said_in_words(connect: Callable[..., Client]) -> None:
    """A host that refuses, and one that does not exist, are named with the reason, and what was wanted."""
    with socket.socket() as nobody:  # a port that is taken, and answers nothing
        nobody.bind(("127.0.0.1", 0))
        client = connect(f"http://127.0.0.1:{nobody.getsockname()[1]}", retries=1)
        with pytest.raises(
            ConnectionFailed, match=r"Could not list batches: .*127\.0\.0\.1.*the connection was refused"
        ):
            client.list_batches()
    client = connect("https://nobody.invalid", retries=0)
    with pytest.raises(ConnectionFailed, match=r"nobody\.invalid: the host name cannot be found"):
        client.list_batches()


def test_an_answer_that_trickles_without_end_is_given_up(
    proxy: Proxy, connect: Callable[..., Client]
) -> None:
    """A byte now and then does not hold a call for ever."""
    proxy.add(Fault("GET ", trickle=0.05, times=9))
    with pytest.raises(ConnectionFailed, match="does not end"):
        connect(proxy.url, timeout=2.0, retries=0).list_batches()


# Limits


def test_retry_after_is_honoured(server: LocalServer, proxy: Proxy, connect: Callable[..., Client]) -> None:
    """A 429 that says when: not a moment earlier, for no call to that host."""
    client = connect(proxy.url)
    proxy.add(Fault("GET ", canned=answer(429, "", {"Retry-After": "1"})))
    started = time.monotonic()
    client.list_batches()

    assert time.monotonic() - started >= 1.0


def test_a_503_that_says_when_is_waited_for(proxy: Proxy, connect: Callable[..., Client]) -> None:
    """A server that is down for a second is asked again after a second."""
    proxy.add(Fault("GET ", canned=answer(503, "", {"Retry-After": "1"})))
    started = time.monotonic()
    connect(proxy.url).list_batches()

    assert time.monotonic() - started >= 1.0


def test_an_answer_without_calls_left_holds_all_clients_of_the_host(
    proxy: Proxy, connect: Callable[..., Client]
) -> None:
    """When the service says that none are left, another client of the process waits for the reset too."""
    reset = int(time.time()) + 2
    headers = {"ratelimit-limit": "250", "ratelimit-remaining": "0", "ratelimit-reset": str(reset)}
    proxy.add(Fault("GET ", canned=answer(200, {"data": []}, headers)))
    connect(proxy.url).list_batches()
    connect(proxy.url).list_batches()

    assert time.time() >= reset


def test_the_servers_own_limit_is_kept(
    serve: Callable[..., LocalServer], connect: Callable[..., Client]
) -> None:
    """Five calls a minute mean that the sixth is told to wait, and a short budget says so at once."""
    client = connect(serve(rate_limit=(5, 100)).url, budget=30.0)
    for _ in range(5):
        client.list_batches()
    with pytest.raises(TooManyRequests) as caught:  # the next minute is not waited for
        client.list_batches()

    assert 0 < (caught.value.retry_after or 0) < 120


@pytest.mark.parametrize("retry_after", ["7200", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_wait_beyond_the_budget_is_an_error_that_says_how_long(
    proxy: Proxy, connect: Callable[..., Client], retry_after: str
) -> None:
    """Nobody sits in a cell for hours: the error has the time, and comes at once."""
    proxy.add(Fault("GET ", canned=answer(429, {"message": "come back"}, {"Retry-After": retry_after})))
    client = connect(proxy.url)
    with pytest.raises(TooManyRequests, match="come back") as caught:
        client.list_batches()
    assert (caught.value.retry_after or 0) >= 7_200
    with pytest.raises(TooManyRequests, match="lets no call through for another"):
        client.list_batches()
    assert len(proxy.connections) == 1


@pytest.mark.parametrize("retry_after", ["soon", "-1", "", "nan", "Fri, 99 Foo 2100"])
def test_a_retry_after_that_is_nonsense_is_ignored(
    proxy: Proxy, connect: Callable[..., Client], retry_after: str
) -> None:
    """Nonsense in the header is neither an error nor a wait."""
    proxy.add(Fault("GET ", canned=answer(503, "", {"Retry-After": retry_after})))
    connect(proxy.url, budget=5.0).list_batches()


def test_a_429_without_end_is_too_many_requests(proxy: Proxy, connect: Callable[..., Client]) -> None:
    """Tries run out, and the service's words come through."""
    proxy.add(Fault("GET ", canned=answer(429, {"message": "slow down"}), times=99))
    with pytest.raises(TooManyRequests, match="slow down"):
        connect(proxy.url, retries=3).list_batches()
    assert len(proxy.connections) == 4


def test_a_limit_on_enqueued_tokens_is_told_at_once(proxy: Proxy, connect: Callable[..., Client]) -> None:
    """Room for more comes when batches end, not in seconds: nobody waits for it inside a call."""
    proxy.add(Fault("POST ", canned=answer(429, {"message": "Enqueued token limit reached"}), times=99))
    with pytest.raises(TooManyRequests, match="Enqueued token limit") as caught:
        connect(proxy.url).create_batch("f", provider="openai", endpoint=CHAT, request_id="r")
    assert caught.value.no_room
    assert len(proxy.connections) == 1


# Errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (412, NotReady),
        (418, ApiError),
        (422, BadRequest),
        (501, ServerError),
    ],
)
def test_a_final_answer_is_its_error_and_not_repeated(
    proxy: Proxy, connect: Callable[..., Client], status: int, kind: type[ApiError]
) -> None:
    """The service's message, id and request id are in the error; asking again would not help."""
    body = {"id": "some_id", "message": "Because.", "request_id": "q-1"}
    proxy.add(Fault("GET ", canned=answer(status, body), times=9))
    with pytest.raises(kind) as caught:
        connect(proxy.url).get_batch("b")

    error = caught.value
    assert type(error) is kind
    assert (error.status, error.id, error.message, error.request_id) == (status, "some_id", "Because.", "q-1")
    assert (
        str(error)
        == f"Could not read batch b: the service answered {status} (some_id): Because. [request_id q-1]"
    )
    assert pickle.loads(pickle.dumps(error)).request_id == "q-1"
    assert len(proxy.connections) == 1


@pytest.mark.parametrize(
    ("body", "message", "id"),
    [
        ({"error": {"message": "No.", "type": "invalid", "code": None}}, "No.", "invalid"),
        ({"error": "No."}, "No.", None),
        ({"detail": "No."}, "No.", None),
        ({"message": None, "id": 7}, '{"message": null, "id": 7}', None),
        ([], "[]", None),
        ("<html><head><title>403</title><style>x</style></head><body>Go\n\taway</body>", "403 Go away", None),
        (b"\xff\xfe\x00 odd \x1b[31m bytes", "\ufffd\ufffd odd [31m bytes", None),
        ("", "Canned", None),
        ("x" * 9_999, "x" * 299 + "…", None),
    ],
)
def test_an_error_of_any_shape_is_told_in_a_short_clean_line(
    proxy: Proxy, connect: Callable[..., Client], body: Any, message: str, id: str | None
) -> None:
    """JSON of other shapes, HTML of a proxy, nothing at all: a line that can be read."""
    proxy.add(Fault("GET ", canned=answer(403, body, {"X-Request-Id": "q-9"})))
    with pytest.raises(Forbidden) as caught:
        connect(proxy.url).get_batch("b")

    assert (caught.value.message, caught.value.id, caught.value.request_id) == (message, id, "q-9")


@pytest.mark.parametrize("body", ["<html>Sign in to the hotel's network</html>", "", "null"])
def test_a_good_answer_that_is_no_json_is_an_error(
    proxy: Proxy, connect: Callable[..., Client], body: str
) -> None:
    """A page of a hotel's network is not taken for the service."""
    proxy.add(Fault("GET ", canned=answer(200, body)))
    with pytest.raises(ApiError, match="not JSON"):
        connect(proxy.url).list_batches()


def test_an_answer_without_what_matters_is_an_error(proxy: Proxy, connect: Callable[..., Client]) -> None:
    """A batch without an id, or an upload without an address, is not passed on."""
    proxy.add(Fault(canned=answer(200, {"hello": "world"}), times=9))
    client = connect(proxy.url)
    for call in (lambda: client.get_batch("b"), lambda: client.create_file("x-1.jsonl")):
        with pytest.raises(ApiError, match="lacks"):
            call()


def test_an_odd_batch_is_still_read(proxy: Proxy, connect: Callable[..., Client]) -> None:
    """Fields that are absent, null or new do not stop a poll."""
    proxy.add(
        Fault(canned=answer(200, {"batch_id": 7, "status": "warming_up", "request_counts": None, "x": [1]}))
    )
    batch = connect(proxy.url).get_batch("7")

    assert (batch.batch_id, batch.status, batch.terminal) == ("7", "warming_up", False)


def test_a_closed_client_says_so(server: LocalServer, connect: Callable[..., Client]) -> None:
    """Closing ends a pause at once, and calls after it fail in words."""
    server.faults.add("list_batches", status=503, retry_after=500.0, times=None)
    client = connect(server.url)
    threading.Timer(0.2, client.close).start()
    started = time.monotonic()
    with pytest.raises(ConnectionFailed, match="closed"):
        client.list_batches()
    assert time.monotonic() - started < 400
    with pytest.raises(ConnectionFailed, match="closed"):
        client.list_batches()


# Settings


def test_settings_are_read_at_each_call(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client without a token of its own follows ``configure``, in the middle of a job too."""
    monkeypatch.setattr(config, "_chosen", config._Chosen(token="first", base_url=server.url + "/"))
    client = Client(backoff=0.0)
    assert client.base_url == server.url
    client.list_batches()
    config.configure(token="")
    for name in config.TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match=r"configure.*DIGITALOCEAN_TOKEN.*MODEL_ACCESS_KEY"):
        client.list_batches()
    with pytest.raises(ConfigurationError, match="no token"):
        Client()
    monkeypatch.setenv("MODEL_ACCESS_KEY", " from-the-environment\n")
    client.list_batches()
    assert server.calls == ["list_batches", "list_batches"]


@pytest.mark.parametrize(
    "url",
    ["http://inference.example", "ftp://inference.example", "inference.example", "", "https://u:p@inference.example",
     "https://inference.example?x=1", "http://[::1", "https://inference.example:99999"],
)  # fmt: skip
def test_an_address_that_is_not_safe_is_refused(url: str) -> None:
    """A token goes over https, to an address that is one, or nowhere."""
    if not url:
        url = "https://"
    with pytest.raises(ConfigurationError):
        Client(TOKEN, url)


def test_plain_http_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who knows their network may say so, for one client or for all."""
    assert Client(TOKEN, "http://inference.example", allow_http=True).base_url == "http://inference.example"
    monkeypatch.setattr(config, "_chosen", config._Chosen(allow_http=True))
    assert Client(TOKEN, "http://inference.example").base_url == "http://inference.example"
