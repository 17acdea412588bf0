"""Who may call the server, by what name, with how much; and what others on the machine can read."""

from __future__ import annotations

import itertools
import os
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qsl, urlencode, urlsplit

import orjson
import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st
from server.driver import CHAT, Api, chat_lines, eventually, jsonl
from server.remote import Remote

from dobatch_pandas.errors import ServerProblem
from dobatch_pandas.server import LocalServer, plain
from dobatch_pandas.server.certificate import given_certificate, make_certificate
from dobatch_pandas.server.replies import Room

DATA = jsonl(chat_lines(3))


@pytest.fixture
def port(api):
    return urlsplit(api.url).port


@pytest.mark.parametrize(
    "name",
    ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example:{port}", "xlocalhost",
     "localhost:{port}.evil.example", "localhost@evil.example", "8.8.8.8", "[2001:db8::1]:{port}", "", "127.0.0.1:x",
     "0x7f000001.evil", "[::1]evil.example"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/batches", "/", "/health", "/_dobatch/state", "/v1/nothing"])
def test_a_name_that_is_not_this_machines_is_refused(api, port, name, path):
    """
    A page in a browser may let a name of its own point here, and read with it what it likes.
    """
    answer = api.call("GET", path, headers={**api.headers, "Host": name.format(port=port)})
    assert answer.status_code == 403
    assert answer.json()["id"] == "forbidden"


@pytest.mark.parametrize(
    "name", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST", "[::1]:{port}", "127.0.0.1", "localhost:1"]
)
def test_this_machines_names_are_answered(api, port, name):
    """
    With any port: it may be forwarded from another.
    """
    headers = {**api.headers, "Host": name.format(port=port)}
    assert api.call("GET", "/v1/batches", headers=headers).status_code == 200


def test_two_names_or_none_are_refused(api, port):
    """
    What one reader takes from such a request, another does not.
    """
    for heads in ("", f"Host: localhost\r\nHost: evil.example:{port}\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=120) as one:
            one.sendall(f"GET /health HTTP/1.1\r\n{heads}Connection: close\r\n\r\n".encode())
            assert one.recv(100).split(b" ")[1] in (b"400", b"403")


@pytest.mark.parametrize(
    ("hosts", "status"), [(["gpu.example"], 200), (["*"], 200), (["other.example"], 403)]
)
def test_other_names_can_be_allowed(serve, hosts, status):
    """
    One by one, or any.
    """
    api = serve(allowed_hosts=hosts)
    assert (
        api.call("GET", "/v1/batches", headers={**api.headers, "Host": "GPU.example:80"}).status_code
        == status
    )


def test_a_page_of_another_origin_gets_nothing(api):
    """
    CORS stays shut: neither a preflight nor an answer allows it.
    """
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    for answer in (
        api.call("OPTIONS", "/v1/batches", headers=headers),
        api.call("GET", "/v1/batches", headers={**api.headers, **headers}),
        api.call("GET", "/", headers=headers),
    ):
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


# The token.


def test_the_command_draws_a_token(tmp_path):
    """
    Another at each start, and no other is accepted.
    """
    drawn = []
    for _ in range(2):
        with Remote(tmp_path) as remote:
            drawn.append(remote.token)
            assert Api(remote).call("GET", "/v1/batches").status_code == 200
            refused = Api(remote, "local").call("GET", "/v1/batches")
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert refused.headers["ratelimit-limit"] == "5000"
    assert len(set(drawn)) == 2
    assert all(len(token) >= 32 for token in drawn)


def test_a_token_is_read_from_a_file_or_the_environment(tmp_path):
    """
    Neither stands in the list of processes.
    """
    file = tmp_path / "token"
    file.write_text("from-the-file\n")
    with Remote(tmp_path / "a", "--token-file", str(file)) as remote:
        assert remote.token == "from-the-file"
    with Remote(tmp_path / "b", env={"DOBATCH_SERVER_TOKEN": "from-the-environment"}) as remote:
        assert remote.token == "from-the-environment"


def test_a_server_for_the_network_has_a_token():
    """
    Where none is chosen one is drawn, in Python too.
    """
    one, other = LocalServer(host="0.0.0.0"), LocalServer(host="0.0.0.0")
    assert len(one.token) >= 32
    assert one.token != other.token


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--concurrency", "0"], "concurrency"),
        (["--concurrency", "x"], "concurrency"),
        (["--port", "99999"], "port"),
        (["--rate-limit", "0,5"], "such as 250,5000"),
        (["--rate-limit", "5"], "such as 250,5000"),
        (["--latency", "-1"], "seconds"),
        (["--fail-share", "1.5"], "share"),
        (["--token", ""], "token"),
        (["--token", "a b"], "blanks"),
        (["--token-file", "/no/such/file"], "/no/such/file"),
        (["--token-file", "~no-such-user/file"], "~no-such-user/file"),
        (["--tls-cert", "~no-such-user/file"], "~no-such-user/file"),
        (["--home", __file__], "home"),
        (["--home", "{dangling}"], "home"),
        (["--host", "no.such.host.invalid"], "Choose another host"),
        (["--tls-cert", __file__], "certificate"),
        (["--tls-key", __file__], "--tls-cert"),
        (["--log", "/no/such/folder/x"], "--log"),
        (["--host", ""], "--host"),
        (["--home", ""], "--home"),
        (["--record", " "], "--record"),
        (["--replay", ""], "--replay"),
        (["--tls-cert", ""], "--tls-cert"),
        (["--allowed-host", ""], "--allowed-host"),
        (["--url-lifetime", "1e300"], "seconds"),
        (["--fault", "infer:delay=nan"], "delay"),
        (["--model", "http://[::1"], "localhost"),
        (["--record", "{dangling}", "--service", "https://[::1"], "no address"),
        (["--fault-file", "/no/such/file"], "--fault-file"),
        (["--fault-file", "{faults}"], "line 3"),
        (["--model", "http://"], "localhost"),
    ],
)
def test_an_option_that_cannot_be_is_told(tmp_path, options, words):
    """
    One message that names it, no traceback, and the status of a failed command.
    """
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "deeper")
    (tmp_path / "faults").write_text("# two\nupload:status=503\nupload:statuss=503\n")
    given = [one.format(dangling=tmp_path / "dangling", faults=tmp_path / "faults") for one in options]
    ended = subprocess.run(
        [sys.executable, "-m", "dobatch_pandas.server", "--port", "0", *given],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert ended.returncode in (1, 2)
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "options",
    [{"concurrency": 0}, {"concurrency": -2}, {"concurrency": 1.5}, {"port": 70_000}, {"port": -1}, {"token": ""},
     {"token": "a b"}, {"token": "ü"}, {"rate_limit": (0, 1)}, {"url_lifetime": -1},
     {"url_lifetime": 1e300}, {"rate_limit": 5}, {"rate_limit": ("a", "b")}, {"latency": float("nan")}, {"latency": "1"},
     {"api_latency": -1}, {"fail_share": 2}, {"fail_share": True}, {"fail_kinds": ("sulking",)}, {"fail_kinds": ()},
     {"fail_kinds": "empty"}, {"fail_times": 0}, {"enqueued_tokens": -5}, {"host": ""}, {"home": ""}],
)  # fmt: skip
def test_an_option_of_the_class_that_cannot_be_is_told(options):
    """
    Before anything listens.
    """
    with pytest.raises(ValueError, match=next(iter(options))):
        LocalServer(**options)


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_it_listens_on_ipv6():
    """
    Its address is one that clients can use.
    """
    try:
        with LocalServer(host="::1") as server:
            assert server.url.startswith("http://[::1]:")
            assert Api(server).call("GET", "/v1/batches").status_code == 200
            assert Api(server).intent()["upload_url"].startswith(server.url)
    except ServerProblem as problem:
        pytest.skip(str(problem))


# Files.


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_whatever_lies_in_a_home_is_closed_to_others(tmp_path):
    """
    Also in a folder that was there before, with any umask, and in one that an older version left open.
    """
    home = tmp_path / "batches"
    for folder in (home, home / "inputs", home / "outputs"):
        folder.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        with LocalServer(home=home) as server:
            api = Api(server)
            api.until(api.create(chat_lines(3)), "completed")
            server.hold(after=1)
            api.until(api.create(chat_lines(3)), "in_progress")
            for path in [home, *home.rglob("*")]:
                if path.is_dir():
                    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
            assert stat.S_IMODE((home / "server.sqlite").stat().st_mode) == 0o600
    finally:
        os.umask(before)


# Signed addresses.


def test_an_altered_address_is_refused(api):
    """
    One file and one set of parameters were signed: nothing moved, doubled or added.
    """
    url = api.intent()["upload_url"]
    base, _, query = url.partition("?")
    pairs = parse_qsl(query)
    altered = [
        f"{base}%0A?{query}",
        f"{base}%0a?{query}",
        f"{base}%00?{query}",
        f"{base}/?{query}",
        f"{url}&x=1",
    ]
    altered += [f"{url}&{name}={value}" for name, value in pairs]
    altered += [f"{base}?{name}={value}0&{query}" for name, value in pairs]
    names = sorted(pair for pair in pairs if pair[0] != "signature")
    for (name, value), (following, moved) in itertools.pairwise(names):
        rest = [pair for pair in pairs if pair[0] not in (name, following)]
        for joint in ("\n", "&", "%0A", "\r\n"):
            altered.append(f"{base}?{urlencode([*rest, (name, f'{value}{joint}{following}={moved}')])}")
    for link in altered:
        assert api.put(link, DATA).status_code in (400, 403, 404), link
    assert api.put(url, DATA).status_code == 200


def test_the_path_that_is_verified_is_the_path_that_is_served(api):
    """
    A Host header cannot make another path of it.
    """
    links = []
    for _ in range(2):
        batch_id = api.create(chat_lines(1))
        api.until(batch_id, "completed")
        links.append(urlsplit(api.results(batch_id).json()["output_file_url"]))
    mine, yours = links
    for host in (
        f"x{mine.path}?{mine.query}&",
        f"localhost{mine.path}?{mine.query}#",
        f"localhost{mine.path}?",
    ):
        answer = requests.get(f"{api.url}{yours.path}?{mine.query}", headers={"Host": host}, timeout=120)
        assert answer.status_code in (400, 403)


# Bodies.


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/batches/files", CHAT])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_far_too_large_is_refused(api, path, chunked):
    """
    Before it is held in memory; the server goes on.
    """
    size = 70_000_000 if path == CHAT else 1_100_000
    data = (b" " * 100_000 for _ in range(size // 100_000 + 1)) if chunked else b" " * size
    try:
        answer = api.call("POST", path, data=data)
        assert answer.status_code == 413
        assert "larger" in answer.text
    except requests.ConnectionError:
        pass  # it hung up while the rest was being sent
    assert api.call("GET", "/v1/batches").status_code == 200


@pytest.mark.parametrize("value", [b"{}", b"0"], ids=bytes.decode)
def test_a_body_of_millions_of_values_is_refused(api, value):
    """
    Two bytes of JSON are fifty in memory, so it is refused before it is read: as a call, and as a line of a batch.
    """
    messages = b"[" + b",".join([value] * 4_000_000) + b"]"
    answer = api.call("POST", CHAT, data=b'{"model":"m","messages":' + messages + b"}")
    assert (answer.status_code, "4,000,000 values" in answer.text) == (413, True)
    line = (
        b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":%b}}\n'
    )
    batch = api.until(api.create([line % messages]), "failed")
    assert [error["code"] for error in batch["errors"]] == ["request_too_large"]


VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.text('",[{\\\\\n a', max_size=8),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text('",\\\\a'), inner, max_size=8),
)


def _count(value):
    """Values and keys."""
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(_count, value.values()))
    return 1 + (sum(map(_count, value)) if isinstance(value, list) else 0)


@given(VALUES)
@example(",{[" * 100)
@example(["\\\\", ",,,,,,,,,,,,,,,,", '\\\\"'])
@example([""] * 100)
def test_prose_full_of_commas_is_one_value(value):
    """
    However much of it there is; what is counted is what takes memory.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "MOST_VALUES", 10)
        found = plain.too_many(orjson.dumps(value))
    assert found or _count(value) <= 2 * 10 + 1
    assert not found or _count(value) > 10 // 2


def test_large_bodies_that_come_together_take_a_bounded_room(serve):
    """
    Some are told to come again, small ones are answered, and all of the room is there again at the end.
    """
    over = threading.Event()
    api = serve(lambda body: over.wait(120) and "done", concurrency=8)
    api.server._running().room = Room(1_000_000)

    def call(size, **options):
        body = {"model": "m", "messages": [{"role": "user", "content": "x" * size}]}
        return api.call("POST", CHAT, json=body, **options)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(call, 600_000)
        eventually(lambda: api.server._running().executor.asking == 1)
        second = call(600_000)
        assert (second.status_code, second.headers["retry-after"]) == (503, "1")
        small = threads.submit(call, 1000)
        eventually(lambda: api.server._running().executor.asking == 2)
        over.set()
        assert [first.result().status_code, small.result().status_code] == [200, 200]
    assert call(900_000).status_code == 200


def test_made_up_tokens_do_not_fill_the_memory():
    """
    The limiter remembers a thousand of them at most.
    """
    from dobatch_pandas.server.clock import Clock
    from dobatch_pandas.server.limits import RateLimiter

    limiter = RateLimiter(250, 5000, Clock())
    for number in range(3000):
        limiter.ask(f"token {number}")
        limiter.look(f"other {number}")
    assert len(limiter._calls) <= 1000


def test_what_was_never_used_goes_after_thirty_days(api, tmp_path):
    """
    Files that no batch was made of; and at a start what a killed upload left.
    """
    file_id = api.upload(chat_lines(1))
    folder = api.server._running().inputs.folder
    assert (folder / f"{file_id}.jsonl").exists()
    api.server.advance(31 * 24 * 3600)
    assert not (folder / f"{file_id}.jsonl").exists()
    assert api.post_batch(file_id).status_code == 404
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "x.0a.partial").write_bytes(b"x")
    with LocalServer(home=tmp_path):
        assert list((tmp_path / "inputs").iterdir()) == []


# https.


def test_a_certificate_is_made_and_kept(tmp_path):
    """
    A client that trusts the authority is answered, also after a restart; one that does not is not.
    """
    pytest.importorskip("trustme")
    certificate = make_certificate(tmp_path / "tls")
    assert make_certificate(tmp_path / "tls") == certificate
    kept = certificate.authority.read_bytes()
    for _ in range(2):
        with LocalServer(home=tmp_path, tls=make_certificate(tmp_path / "tls")) as server:
            assert server.url.startswith("https://127.0.0.1:")
            headers = {"Authorization": "Bearer x"}
            good = requests.get(
                f"{server.url}/v1/batches", headers=headers, verify=str(certificate.authority), timeout=120
            )
            assert good.status_code == 200
            with pytest.raises(requests.exceptions.SSLError):
                requests.get(f"{server.url}/v1/batches", headers=headers, timeout=120)
    assert certificate.authority.read_bytes() == kept
    assert stat.S_IMODE(certificate.key.stat().st_mode) == 0o600
    assert make_certificate(tmp_path / "tls", ("gpu.example",)).authority.read_bytes() != kept
    assert given_certificate(certificate.chain, certificate.key).key == certificate.key


def test_a_connection_that_speaks_no_tls_does_no_harm(tmp_path):
    """
    Plain http to the https port is cut.
    """
    pytest.importorskip("trustme")
    with LocalServer(tls=make_certificate(tmp_path)) as server:
        with pytest.raises(requests.ConnectionError):
            requests.get(server.url.replace("https", "http"), timeout=120)
        assert requests.get(f"{server.url}/health", verify=str(tmp_path / "authority.pem"), timeout=120).ok


def test_a_home_whose_ledger_is_none_is_told(tmp_path):
    """
    In words, and the address is free again.
    """
    (tmp_path / "server.sqlite").write_bytes(b"this is no database" * 100)
    server = LocalServer(home=tmp_path)
    with pytest.raises(ServerProblem, match="home"):
        server.start()
    (tmp_path / "server.sqlite").unlink()
    with server:
        assert Api(server).call("GET", "/v1/batches").status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/batches/files", {"file_name": "\ud83d.jsonl"}),
     ("/v1/batches", {"file_id": "\ud83d", "provider": "openai", "endpoint": CHAT, "request_id": "x"}),
     ("/v1/batches", {"file_id": "x", "provider": "openai", "endpoint": CHAT, "request_id": "\udc00"}),
     ("/_dobatch/faults", {"operation": "\ud83d"}),
     (CHAT, {"model": "m", "messages": [{"role": "user", "content": "\ud83d"}]})],
)  # fmt: skip
def test_half_an_emoji_in_a_request_is_refused(api, path, body):
    """
    400: it is no Unicode, and would not be storable.
    """
    assert api.call("POST", path, json=body).status_code == 400
