"""What a run must never show, and the words that say where it did."""

from __future__ import annotations

PROMISES = {
    "a": "no request is executed twice within an ask",
    "b": "a row has its own answer or a code, never another's",
    "c": "once the world is quiet, every answer that the service has is on its row",
    "d": "after a confirmed cancel nothing new runs, and no running batch is forgotten",
    "e": "never more money than max_cost",
    "f": "what stands still says why",
    "g": "a job's trouble is its own",
    "h": "what could be read once can be read for ever",
    "i": "what is on disk opens",
    "live": "every job ends once the world is quiet",
    "just": "a refusal is final only where the service has refused this very request",
    "lock": "only who has the right to move a job on writes to it",
    "limit": "a limit of cost that was asked for holds, in whatever process",
    "exit": "what was submitted is sent before the process ends",
    "deadline": "what could be done in time is done in time",
    "calm": "nothing is tried again without a pause",
}


class Broken(BaseException):
    """A promise does not hold. No part of what is tried may take it for a fault of the world."""

    def __init__(self, promise: str, words: str) -> None:
        super().__init__(f"({promise}) {PROMISES[promise]}: {words}")
        self.promise = promise
