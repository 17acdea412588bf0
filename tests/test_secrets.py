"""Nothing that a whole failing session writes holds the token or a signature."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

from waiting import PATIENCE

TOKEN = "dop_v1_0123456789abcdefsecret"

SESSION = """
import logging, pickle, sys, traceback
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
import pandas as pd
import dobatch_pandas as dobatch

dobatch.configure(home=sys.argv[1], base_url=sys.argv[2], token=sys.argv[3])
print(dobatch.config.settings())
frame = pd.DataFrame({"n": range(50)})
plan = frame.dobatch.plan("{n}", model="echo")
print(plan, plan._repr_html_())
job = plan.submit()
try:
    job.wait()
except dobatch.DobatchError:
    traceback.print_exc(file=sys.stdout)
print(job, job.snapshot(), job.batches.to_string(), job.responses().to_string())
client = dobatch.Client()
print(client, vars(client), pickle.dumps(client))
intent = client.create_file("x.jsonl")
print(intent, repr(intent), pickle.dumps(intent))
links = client.get_results(job.batches["batch_id"].iloc[0])
print(links, repr(links))
from dobatch_pandas.display.html import static_html
print(static_html(job.snapshot()))
print(dobatch.jobs().to_string())
with open(sys.argv[1] + "/x.jsonl", "w") as file:
    file.write("{}")
client.upload(intent.upload_url, sys.argv[1] + "/x.jsonl", content_type="text/wrong")
"""


def test_a_failing_session_writes_no_secret(serve, home, tmp_path):
    """
    Logs at DEBUG, tracebacks, reprs, pickles, panels, everything on disk: neither token nor signature.
    """
    server = serve(token=TOKEN, upload_type="application/octet-stream")
    faults = server.faults
    for operation in ("create_file", "create_batch", "get_batch", "get_results"):
        faults.add(operation, drop="after")
        faults.add(operation, status=503)
    faults.add("upload", expire=True)
    faults.add("upload", cut=100)
    faults.add("download", expire=True)
    faults.add("download", cut=100)
    script = tmp_path / "session.py"
    script.write_text(textwrap.dedent(SESSION))
    ended = subprocess.run(
        [sys.executable, script, home, server.url, TOKEN],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 1, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert "LinkRefused" in ended.stderr

    written = [ended.stdout, ended.stderr.replace(TOKEN, "ARGV") if "argv" in ended.stderr else ended.stderr]
    written += [path.read_bytes().decode("latin-1") for path in home.rglob("*") if path.is_file()]
    assert len(written) > 6
    for text in written:
        assert TOKEN not in text
        assert not re.search(r"[?&](signature|sig|X-Amz-Signature|expires)=", text, re.IGNORECASE)
