"""The operations in any order, driven by hypothesis against a model of what must hold."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from server import schemas
from server.driver import TERMINAL, Api, chat_lines, jsonl
from server.schemas import check

from dobatch_pandas.server import LocalServer


class AnyOrder(RuleBasedStateMachine):
    """Files, batches, cancels, pages, holds and hours, as they come."""

    files = Bundle("files")
    batches = Bundle("batches")

    def __init__(self) -> None:
        super().__init__()
        self.server = LocalServer(rate_limit=None).start()
        self.api = Api(self.server)
        self.sizes: dict[str, int | None] = {}
        self.created: list[str] = []
        self.of_request: dict[str, tuple[str, str]] = {}
        self.ended: dict[str, dict[str, Any]] = {}

    def teardown(self) -> None:
        self.server.stop()

    @rule(target=files, size=st.integers(1, 30), uploaded=st.booleans())
    def announce(self, size: int, uploaded: bool) -> str:
        intent = self.api.intent()
        check(intent, schemas.FILE)
        self.sizes[intent["file_id"]] = size if uploaded else None
        if uploaded:
            assert self.api.put(intent["upload_url"], jsonl(chat_lines(size))).status_code == 200
        return intent["file_id"]

    @rule(target=batches, file_id=files, request_id=st.sampled_from("abcd"))
    def create(self, file_id: str, request_id: str) -> Any:
        answer = self.api.post_batch(file_id, request_id=request_id)
        known = self.of_request.get(request_id)
        if known is not None:
            assert answer.status_code == (201 if known[0] == file_id else 409)
            if answer.status_code == 201:
                assert answer.json()["batch_id"] == known[1]
        elif self.sizes[file_id] is None:
            assert answer.status_code == 400
        else:
            assert answer.status_code == 201
            batch_id = answer.json()["batch_id"]
            self.of_request[request_id] = (file_id, batch_id)
            self.created.append(batch_id)
            return batch_id
        check(answer.json(), schemas.BATCH if answer.status_code == 201 else schemas.ERROR)
        return multiple()

    @rule(batch_id=batches)
    def cancel(self, batch_id: str) -> None:
        answer = self.api.cancel(batch_id)
        if batch_id in self.ended:
            assert answer.status_code == 409
        assert answer.status_code in (200, 409)
        check(answer.json(), schemas.BATCH if answer.status_code == 200 else schemas.ERROR)

    @rule(batch_id=batches)
    def get(self, batch_id: str) -> None:
        # Asked first: a batch may end between two questions, but none that has ended runs again.
        results = self.api.results(batch_id).json()
        batch = self.api.batch(batch_id)
        check(batch, schemas.BATCH)
        if batch_id in self.ended:
            assert batch == self.ended[batch_id]
        if batch["status"] in TERMINAL:
            self.ended[batch_id] = batch
            counts = batch["request_counts"]
            assert counts["total"] == counts["completed"] + counts["failed"]
            output, errors = self.api.lines(batch_id)
            assert (len(output), len(errors)) == (counts["completed"], counts["failed"])
            ids = sorted(line["custom_id"] for line in output + errors)
            assert ids == [line["custom_id"] for line in chat_lines(counts["total"])]
        else:
            assert results == {"batch_id": batch_id, "result_available": False}

    @rule(limit=st.integers(1, 4))
    def pages(self, limit: int) -> None:
        found, after = [], None
        while True:
            page = self.api.call("GET", "/v1/batches", params={"limit": limit, "after": after}).json()
            check(page, schemas.LIST)
            found += [batch["batch_id"] for batch in page["data"]]
            after = page["last_id"]
            if not page["has_more"]:
                break
        assert found == self.created[::-1]

    @rule(stage=st.sampled_from(["validating", "in_progress", "finalizing"]), after=st.integers(0, 10))
    def hold(self, stage: Any, after: int) -> None:
        self.server.hold(stage, after=after)

    @rule()
    def release(self) -> None:
        self.server.release()

    @rule(hours=st.sampled_from([1, 25]))
    def advance(self, hours: int) -> None:
        self.server.advance(hours * 3600)

    @rule()
    def everything_ends(self) -> None:
        self.server.release()
        for batch_id in self.created:
            self.api.until(batch_id)

    @invariant()
    def nothing_unexpected(self) -> None:
        assert all(batch.status != "failed" for batch in self.server.batches)


AnyOrder.TestCase.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
TestAnyOrder = AnyOrder.TestCase
