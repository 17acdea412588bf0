"""
What happens to a job: every decision, and no deed.

``step(state, event, now)`` returns the new state and the actions to carry out. There is no thread, clock, random
source, file or socket here; the loop (`engine`) does what is decided and reports back with an event. So all of it
can be read from top to bottom, and tried in a simulation.

The way of a part, with the action that leads on::

    rendered --Upload--> uploaded --Create--> created --Look--> ended --Fetch--> fetched --Read--> read

A part that is asked in real time needs no batch: its answers are written down one by one as they come::

    rendered --Ask--> fetched --Read--> read

A part that is never sent (cancelled before, or refused by the service) goes to ``fetched`` at once: it is read
without files, so that each of its requests has a code.

What the engine does before anything else: whatever changed in the `DURABLE` fields of a part, or in a job's own,
is on disk before the actions of that step begin.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dobatch_pandas.codes import NO_SUCCESS, ErrorGroup
from dobatch_pandas.errors import in_dollars

if TYPE_CHECKING:
    from dataclasses import replace
else:

    def replace(known, **changes):
        """As that of dataclasses, and several times as quick: a part has forty fields, and most steps change two."""
        new = object.__new__(type(known))
        vars(new).update(vars(known), **changes)
        return new


PartState = Literal["rendered", "uploaded", "created", "ended", "fetched", "read"]
Operation = Literal["render", "upload", "create", "find", "look", "cancel", "fetch", "read", "ask", "output"]
Waiting = Literal["person", "room", "budget", "stuck"]

# -- what can go wrong

FaultKind = Literal[
    "token",  # 401, 403, or there is no token that can be right
    "refused",  # 400, 402, 405, 413, 422 ...: a reason of the service's own
    "unknown",  # 404
    "conflict",  # 409
    "gone",  # 410
    "not_ready",  # 412, 425, or an answer that says so
    "busy",  # 429
    "strange",  # a page, a redirect, an answer that lacks what is promised, 407, 408: not the service's word
    "trouble",  # 5xx
    "silent",  # no answer
    "link",  # storage refused a signed address: too old, or not what was signed
    "no_object",  # storage has nothing at a signed address
    "torn",  # bytes are missing, or are not what was announced
    "disk",  # this machine cannot write or read, or has no memory or thread for it
    "rows",  # what is asked cannot be had here: whoever has the rows submits them again
    "bug",  # anything else: shown with its words
]


@dataclass(frozen=True)
class Fault:
    """
    Why an operation failed.

    ``words`` are for a person. ``retry_after`` is in seconds. ``enqueued`` says that the provider's limit on enqueued
    tokens is the reason, ``about_file`` that the service does not find the uploaded file.
    """

    kind: FaultKind
    words: str
    retry_after: float | None = None
    enqueued: bool = False
    about_file: bool = False


class Verdict(Enum):
    """What follows from a fault."""

    WAIT = auto()  # it passes: the same again, later and later
    PATIENT = auto()  # the same, but not for ever: then the rows have provisional codes
    BRIEF = auto()  # the same for some seconds
    PERSON = auto()  # a person is needed: `configure` wakes the part
    STUCK = auto()  # trying again mends nothing: until a person attaches again
    ROOM = auto()  # when one of our batches has ended
    UPLOAD_AGAIN = auto()  # the service does not find the file
    FIND = auto()  # a batch with our request_id may exist: look for it
    REFUSED = auto()  # final for this part: its rows have a code, and `retry` sends them again
    NEXT_LOOK = auto()  # the next look tells


_W, _P, _B = Verdict.WAIT, Verdict.PATIENT, Verdict.BRIEF
_HUMAN, _NO = Verdict.PERSON, Verdict.REFUSED

# For each operation, what each kind of fault means; "*" is any other kind. Held against the service's documentation:
# what it has acknowledged is believed, and only a refusal of this very request, in the service's own words, is final.
POLICY: Mapping[Operation, Mapping[FaultKind | Literal["*"], Verdict]] = {
    "render": {"bug": Verdict.STUCK, "rows": Verdict.STUCK, "*": _W},
    # POST /v1/batches/files, and PUT to the signed address
    "upload": {
        "token": _HUMAN,
        "refused": _NO,
        "link": _B,
        "no_object": _B,
        "rows": Verdict.STUCK,
        "*": _W,
    },
    # POST /v1/batches
    "create": {
        "token": _HUMAN,
        "refused": _NO,
        "gone": _NO,
        "unknown": Verdict.UPLOAD_AGAIN,
        "not_ready": Verdict.UPLOAD_AGAIN,
        "conflict": Verdict.FIND,
        "*": _W,
    },
    # GET /v1/batches, for a batch whose creation nobody saw
    "find": {"token": _HUMAN, "*": _W},
    # GET /v1/batches/{id}: the batch is known to exist
    "look": {"token": _HUMAN, "busy": _W, "trouble": _W, "silent": _W, "strange": _W, "disk": _W, "*": _P},
    # POST /v1/batches/{id}/cancel
    "cancel": {"token": _HUMAN, "*": Verdict.NEXT_LOOK},
    # GET /v1/batches/{id}/results, and GET from the signed addresses
    "fetch": {"token": _HUMAN, "gone": _B, "no_object": _B, "disk": _W, "rows": Verdict.STUCK, "*": _P},
    "read": {"bug": Verdict.STUCK, "rows": Verdict.STUCK, "*": _W},
    # POST to the endpoint itself; what becomes of a single request is its answer, here is what stops them all
    "ask": {"token": _HUMAN, "bug": Verdict.STUCK, "*": _W},
    "output": {"bug": Verdict.STUCK, "*": _W},
}

# -- how patient

PATIENCE = 6 * 3600.0  # seconds of asking for what is known to exist
FEW = 10.0  # seconds where there is hardly anything to hope for
A_WHILE = 600.0  # seconds that storage may refuse what is uploaded
A_CREATE = (
    60.0  # seconds after which a create whose answer was lost has acted, and the list shows it, or never will
)
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 300.0
A_PERSON = 600.0  # seconds after which what waits for a person is tried all the same
HOLD = 300.0  # seconds after which a part without room is tried, whatever is known
TRIES = 4  # of an upload that the service then does not find, or storage refuses
ROOM_TRIES = 12  # refusals for want of room while no batch of ours takes any
READS = 2  # of files that lack lines which the service's counters promise
PARTS_AHEAD = 5  # on disk before their upload: rendering waits for the rest

SHORTEST_LOOK, LONGEST_LOOK, LOOK_NEAR_THE_END = 0.1, 60.0, 5.0


def pause_before_next_look(age: float, near: bool) -> float:
    """
    Seconds until a batch is looked at again.

    Five percent of its age, so that nobody waits much longer than the batch took, at most a minute, and a
    few seconds where the end is near. A day of one batch costs about 1,500 looks of the 120,000 that the limits allow.

    Parameters
    ----------
    age : float
        Seconds since the batch was created.
    near : bool
        Its end is near, or waited for.
    """
    longest = LOOK_NEAR_THE_END if near else LONGEST_LOOK
    return min(max(age * 0.05, SHORTEST_LOOK), longest)


def _doubled(times: int, longest: float = LONGEST_PAUSE) -> float:
    """Seconds before the next try of what was tried so many times."""
    return min(FIRST_PAUSE * 2.0 ** min(times, 20), longest)


def _backoff(part: Part, fault: Fault) -> float:
    """Seconds before the same is tried again: as long as the service asked for, else longer each time."""
    # Parts that failed at one moment do not come back at one moment.
    spread = 0.75 + 0.25 * ((part.number * 0.618 + part.failures * 0.382) % 1.0)
    return max(_doubled(part.failures) * spread, min(fault.retry_after or 0.0, 3600.0))


# -- what is known


class Now(NamedTuple):
    """
    A moment: ``ticks`` are seconds that only go forward, ``wall`` is Unix seconds and may jump.

    Every pause and all patience is counted in ticks.
    """

    ticks: float
    wall: float


@dataclass(frozen=True)
class BatchSeen:
    """What the machine needs of a batch as the service describes it; ``ended`` where the status is terminal."""

    batch_id: str
    status: str
    ended: bool = False
    completed: int = 0
    failed: int = 0
    expires_at: float | None = None
    problem: str | None = None
    enqueued: bool = False  # it failed for want of room for enqueued tokens
    idle: bool = False  # the service says that none of its requests was begun


@dataclass(frozen=True)
class Part:
    """
    One part of a job: a file of requests that becomes one batch. Times are Unix seconds, costs US dollars.

    Parameters
    ----------
    number : int
    requests, bytes : int
    round : int
        0 as submitted, 1 and on what a retry sent again.
    bound : float or None
        The most that it can cost; None where nobody knows.
    attempt : int
        Makes the ``request_id`` another one, where the service has ended a batch for want of room.
    tried : bool
        The service may have a batch with this ``request_id``.
    status : str or None
        The service's own word, or ``dropped`` (cancelled before it was sent) or ``refused``.
    completed, failed : int
        The service's counters until the results are read, and ours after.
    said_completed, said_failed : int
        The service's counters, as it has last said them: what is owed is told from these.
    provisional : bool
        Requests without a line have a code for want of results: these are asked for again before they are paid again.
    lines : int
        Requests that have a line in the files.
    cost : float or None
        What it cost, measured.
    errors : tuple of ErrorGroup
        Its failures by code, those that a later round asks again left out.
    request_id : str or None
        The idempotency key of its first batch where version 0.1.0 drew one; else it is derived.
    bound_now : float or None
        The most that its requests can cost in real time.
    live : bool
        It is asked in real time.
    to_now : bool
        Its batch is to end, and what that does not do is asked in real time.
    peak : int
        The most requests that the service has counted as ended.
    ran : bool
        Some of it may have been run, though the counters are zero.
    owes : bool
        It was ended, and has counted more answers than its files hold: what has no line there may have been run.
    """

    number: int
    requests: int
    bytes: int = 0
    round: int = 0
    bound: float | None = None
    state: PartState = "rendered"
    attempt: int = 0
    tried: bool = False
    file_id: str | None = None
    batch_id: str | None = None
    status: str | None = None
    completed: int = 0
    failed: int = 0
    said_completed: int = 0
    said_failed: int = 0
    created_at: float | None = None
    deadline: float | None = None
    problem: str | None = None
    provisional: bool = False
    lines: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost: float | None = None
    errors: tuple[ErrorGroup, ...] = ()
    request_id: str | None = None
    bound_now: float | None = None
    live: bool = False
    to_now: bool = False
    peak: int = 0
    ran: bool = False
    owes: bool = False
    # In memory only: what is under way, and when something is next to be done.
    doing: Operation | None = None
    due: float = 0.0
    born: float = 0.0
    failures: int = 0
    since: float | None = None
    brief: float | None = None
    trouble: str | None = None
    waits: Waiting | None = None
    files_sent: int = 0
    refusals: int = 0
    sure: bool = False
    seek: bool = False
    asked_at: float = 0.0
    near: float | None = None
    cancel_asked: bool = False
    last_ask: bool = False
    reads: int = 0
    woken: bool = False

    @property
    def final(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.state == "read"

    @property
    def open(self) -> bool:
        """Whether the service may be at work on it."""
        return self.state == "created"

    @property
    def unsent(self) -> bool:
        """Whether the service is still to be given it."""
        return self.state in ("rendered", "uploaded")


_FIELDS = tuple(Part.__dataclass_fields__)
DURABLE: tuple[str, ...] = _FIELDS[: _FIELDS.index("doing")]
"""Names of a part's fields that outlive the process."""

Outcome = Literal["completed", "failed", "expired", "cancelled"]


@dataclass(frozen=True)
class State:
    """
    One job.

    ``rendered``: every row is in a part. ``cancelled``: its end was asked for. ``output``: a dataset is to be written.
    ``ended`` is Unix seconds, and ``outcome`` the word for it. ``deadline`` is Unix seconds, ``pace`` the seconds that a
    request takes in real time as far as that was measured, ``switched`` whether the time for batches is over.
    ``asks_now``: nothing of it is to be a batch. The rest is in memory only.
    """

    id: str
    rendered: bool = False
    requests: int = 0
    reused: int = 0
    skipped: int = 0
    cancelled: bool = False
    max_cost: float | None = None
    output: bool = False
    written: bool = False
    ended: float | None = None
    outcome: Outcome | None = None
    problem: str | None = None
    asks_now: bool = False
    deadline: float | None = None
    margin: float = 0.0
    pace: float = 0.0
    switched: bool = False
    parts: Mapping[int, Part] = field(default_factory=dict)
    # In memory only.
    send_only: bool = False
    left: bool = False
    doing: Operation | None = None
    due: float = 0.0
    failures: int = 0
    trouble: str | None = None
    stuck: bool = False
    switch_due: float = float("inf")

    @property
    def over(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.ended is not None or self.left

    @property
    def all_sent(self) -> bool:
        """Whether the service has every part, and no further one comes."""
        return self.rendered and not any(part.unsent for part in self.parts.values())


def retried(state: State, event: Retried) -> State:
    """Return the state that goes on from a retry: whoever takes the job up next sends the new parts."""
    return _after(state, event, Now(0.0, 0.0))


def allowed(state: State, event: Allow) -> State:
    """Return the state under another limit of cost."""
    state = replace(state, max_cost=event.max_cost)
    for number, batch, live in event.bounds:
        part = state.parts.get(number)
        if part is not None and part.bound is None:
            state = _with(state, replace(part, bound=live if part.live else batch, bound_now=live))
    return state


def unbounded(state: State) -> list[int]:
    """Return the parts that a limit of cost holds, or makes hold others, because nobody knows what they cost at most."""
    return [
        number
        for number, part in state.parts.items()
        if part.bound is None and (not part.final or _committed(part) is None)
    ]


def request_id(job_id: str, part: Part) -> str:
    """Return the idempotency key of a part's batch: the same after any restart."""
    if part.request_id is not None and part.attempt == 0:
        return part.request_id
    return str(uuid.uuid5(_OURS, f"{job_id}/{part.number}/{part.attempt}"))


_OURS = uuid.UUID("6f1c0d0e-4f0c-5d53-9a55-0b1f2f6f3a11")


def committed(state: State) -> float:
    """US dollars that are spent or may yet be: what was measured, else the bound of whatever may have been sent."""
    return sum(_committed(part) or 0.0 for part in state.parts.values())


def _committed(part: Part) -> float | None:
    if part.state == "read" and part.cost is not None:
        if not part.provisional or (part.status == "failed" and not part.ran and not part.lines):
            return part.cost
        # Rows whose results nobody has seen may have been paid for.
        return None if part.bound is None else max(part.cost, part.bound)
    if part.to_now and part.state != "read":
        # Each of its requests is run once, at the one price or the other.
        return part.bound_now
    return part.bound if part.tried or part.batch_id is not None else 0.0


# -- what happens


@dataclass(frozen=True)
class Began:
    """
    This process moves the job on from here; of a job that is over, provisional results are asked for again.

    ``cancelled``: its end was asked for while nobody moved it.
    """

    send_only: bool = False
    cancelled: bool = False


@dataclass(frozen=True)
class SendOnly:
    """The process is about to end: what is not sent is sent, and then the job is left to whoever comes."""


@dataclass(frozen=True)
class PartRendered:
    """A part is on disk, whole and synced."""

    part: Part


@dataclass(frozen=True)
class Rendered:
    """Every row is in a part, a duplicate, reused or skipped, and the manifest is on disk."""

    requests: int
    reused: int
    skipped: int


@dataclass(frozen=True)
class Uploaded:
    number: int
    file_id: str


@dataclass(frozen=True)
class Seen:
    """The service described a batch: as answer to a create, a look or a cancel."""

    number: int
    batch: BatchSeen
    operation: Operation


@dataclass(frozen=True)
class Found:
    """The batch that has a part's request_id, or that there is none."""

    number: int
    batch: BatchSeen | None


@dataclass(frozen=True)
class Fetched:
    """What the service has for a batch is on disk: both files, one, or none; ``empty``: there is no byte in it."""

    number: int
    empty: bool = False


@dataclass(frozen=True)
class ReadDone:
    """
    Each request of a part has its result on disk. Counts are of requests.

    ``rest``: what the batch was ended for, as a part on disk that is asked in real time.
    """

    number: int
    completed: int
    failed: int
    lines: int
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost: float | None = None
    errors: tuple[ErrorGroup, ...] = ()
    rest: Part | None = None


@dataclass(frozen=True)
class Asked:
    """Every request of a part has its line, or the job is cancelled. ``pace``: seconds that a request took."""

    number: int
    pace: float = 0.0


@dataclass(frozen=True)
class OutputWritten:
    """The dataset of answers is complete."""


@dataclass(frozen=True)
class Failed:
    """An operation failed; ``number`` is None for those of the whole job."""

    number: int | None
    operation: Operation
    fault: Fault


@dataclass(frozen=True)
class Cancel:
    """The user wants the end."""


@dataclass(frozen=True)
class Allow:
    """
    The user sets another limit of cost; None takes it away.

    ``bounds``: what parts may cost at most for which nobody could say so before: number, as a batch, in real time.
    """

    max_cost: float | None
    bounds: tuple[tuple[int, float | None, float | None], ...] = ()


@dataclass(frozen=True)
class FinishBy:
    """The user wants it done by then, in Unix seconds, with so many seconds in hand; None takes that back."""

    deadline: float | None
    margin: float = 0.0


@dataclass(frozen=True)
class Retried:
    """A retry has put the requests that failed with some codes into new parts, on disk and synced."""

    parts: tuple[Part, ...]
    codes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class AskAgain:
    """Somebody looks: results that were given up for want of an answer are asked for once more."""


@dataclass(frozen=True)
class Woken:
    """Something changed that may have mended what was wrong, such as the token."""


@dataclass(frozen=True)
class LookAlong:
    """A batch of another job is looked at now: one call can list those that are due soon."""


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


Event = (
    Began
    | SendOnly
    | PartRendered
    | Rendered
    | Uploaded
    | Seen
    | Found
    | Fetched
    | ReadDone
    | Asked
    | OutputWritten
    | Failed
    | Cancel
    | Allow
    | FinishBy
    | Retried
    | AskAgain
    | Woken
    | LookAlong
    | Tick
)

# -- what is to be done


@dataclass(frozen=True)
class Render:
    """Turn the rows that are in no part yet into parts."""


@dataclass(frozen=True)
class Upload:
    number: int


@dataclass(frozen=True)
class Create:
    """Create the batch of an uploaded part: the one place where money is spent."""

    number: int
    file_id: str
    request_id: str


@dataclass(frozen=True)
class Find:
    """Look through the service's list for the batch that has a part's request_id."""

    number: int
    request_id: str


@dataclass(frozen=True)
class Look:
    number: int
    batch_id: str


@dataclass(frozen=True)
class CancelBatch:
    number: int
    batch_id: str


@dataclass(frozen=True)
class Fetch:
    """Bring in the files of a batch, those anew that are on disk already where ``again``."""

    number: int
    batch_id: str
    again: bool = False


@dataclass(frozen=True)
class Read:
    """
    Write a result for each request of a part; those without a line fail with this code and message.

    ``carry``: put those that were not run into a part of their own, numbered `REST` higher.
    """

    number: int
    code: str
    message: str
    carry: bool = False


@dataclass(frozen=True)
class Ask:
    """Ask each request of a part in real time that has no line yet, and none that may have been asked."""

    number: int


@dataclass(frozen=True)
class WriteOutput:
    """Write the dataset of answers."""


OPERATION_OF: Mapping[type, Operation] = {
    Render: "render",
    Upload: "upload",
    Create: "create",
    Find: "find",
    Look: "look",
    CancelBatch: "cancel",
    Fetch: "fetch",
    Read: "read",
    Ask: "ask",
    WriteOutput: "output",
}
"""The operation that an action begins."""

_ANSWERED_BY: Mapping[type, Operation] = {
    Uploaded: "upload",
    Found: "find",
    Fetched: "fetch",
    ReadDone: "read",
    Asked: "ask",
}

Action = Render | Upload | Create | Find | Look | CancelBatch | Fetch | Read | Ask | WriteOutput


def step(state: State, event: Event, now: Now) -> tuple[State, list[Action]]:
    """
    Return the state after an event, and what is to be done.

    Parameters
    ----------
    state : State
    event : Event
    now : Now

    Returns
    -------
    state : State
        The engine writes down what changed in it before it carries out an action.
    actions : list of Action
        Each is answered by exactly one event about the same part: its own, or `Failed`.
    """
    state = _after(state, event, now)
    state, actions = _plan(state, now)
    if any(isinstance(action, Look) for action in actions):
        # One call tells of many batches: those that are due soon are looked at now too.
        state, more = _plan(_each(state, lambda part: _along(part, now)), now)
        actions += more
    return state, actions


# -- events


def _after(state: State, event: Event, now: Now) -> State:
    match event:
        case Began():
            state = replace(state, send_only=event.send_only, left=False)
            state = replace(state, doing=None, due=now.ticks, failures=0, trouble=None, stuck=False)
            state = replace(state, cancelled=state.cancelled or event.cancelled)
            state = _each(state, lambda part: _resumed(part, now))
            return _ask_again(state, now)
        case SendOnly():
            return replace(state, send_only=True)
        case AskAgain():
            return _ask_again(state, now)
        case PartRendered(part):
            if part.number in state.parts:
                return state
            return _with(state, _made_live(part) if state.asks_now else part)
        case Rendered(requests, reused, skipped) if state.doing == "render":
            state = replace(state, rendered=True, doing=None, trouble=None, failures=0)
            return replace(state, requests=requests, reused=reused, skipped=skipped)
        case Cancel():
            return _woken(replace(state, cancelled=True), now) if state.ended is None else state
        case Allow():
            return _woken(allowed(state, event), now)
        case FinishBy(deadline, margin):
            if state.ended is not None:
                return state
            return replace(state, deadline=deadline, margin=margin, switched=False)
        case Retried(parts, codes):
            state = _each(state, lambda part: _asked_again(part, codes))
            for part in parts:
                state = _with(state, _made_live(part) if state.asks_now else part)
            # The time that it was to be done by was that of the first try.
            state = replace(state, deadline=None, switched=False)
            return replace(state, ended=None, outcome=None, problem=None, cancelled=False, written=False)
        case Woken():
            return _woken(state, now)
        case OutputWritten() if state.doing == "output":
            whole = all(part.final for part in state.parts.values())
            return replace(state, written=whole, doing=None, trouble=None, failures=0)
        case Failed(number=None, operation=operation) if state.doing == operation:
            return _job_failed(state, event.fault, now)
        case LookAlong():
            return _each(state, lambda part: _along(part, now))
        case Tick() | Rendered() | OutputWritten() | Failed(number=None):
            return state
    assert event.number is not None
    part = state.parts[event.number]
    if part.doing != (event.operation if isinstance(event, Seen | Failed) else _ANSWERED_BY[type(event)]):
        return state  # the answer to a question that is no longer asked
    match event:
        case Uploaded():
            part = replace(_well(part, now), state="uploaded", file_id=event.file_id)
        case Seen():
            part = _seen(state, _well(part, now), event.batch, event.operation, now)
        case Found():
            part = _found(state, _well(part, now, keep=True), event.batch, now)
        case Fetched():
            well = replace(_well(part, now, keep=True), state="fetched", provisional=False)
            part = _anew(part, now) if part.unsent and event.empty else well
        case ReadDone():
            owed, well = _owed(part, event), _well(part, now)
            if part.status in CARRIED and part.batch_id is not None and owed != part.owes:
                # What has no line is read once more, under the code that is true then.
                part = replace(well, state="fetched", owes=owed, due=now.ticks)
            else:
                part = _read(well, event, now)
                over = part.final
                # What was asked for in vain as long as there was patience is not asked for as long again.
                hope = part.to_now and not well.provisional and part.reads < PATIENCE / LONGEST_LOOK
                hope = hope and not state.cancelled
                if over and owed and hope:
                    part = _wait_for_what_is_owed(well, now)
                if over and event.rest is not None:
                    part, rest = _carried(part, event.rest)
                    state = _with(state, rest)
                elif over and part.number + REST in state.parts:
                    part = _asked_again(part, CARRIED)
        case Asked():
            status = "cancelled" if state.cancelled else "completed"
            part = replace(_well(part, now), state="fetched", status=status)
            state = replace(state, pace=event.pace or state.pace)
        case Failed():
            part = _failed(state, part, event.operation, event.fault, now)
    before = state.parts[part.number]
    state = _with(state, part)
    if before.open and not part.open:
        # Room at the provider has come free.
        state = _each(
            state, lambda p: replace(p, due=now.ticks) if p.waits == "room" and p is not part else p
        )
    if part.final:
        # What was measured is less than its bound.
        state = _each(state, lambda p: replace(p, due=now.ticks) if p.waits == "budget" else p)
    return state


def _resumed(part: Part, now: Now) -> Part:
    """A part as a process that has just begun has it: nothing is under way, and nobody knows what was."""
    age = max(0.0, now.wall - part.created_at) if part.created_at is not None else 0.0
    kept = {name: getattr(part, name) for name in DURABLE}
    return Part(**kept, due=now.ticks, born=now.ticks - age, asked_at=now.ticks)


def _asked_again(part: Part, codes: frozenset[str]) -> Part:
    left = tuple(group for group in part.errors if group.code not in codes)
    return part if len(left) == len(part.errors) else replace(part, errors=left)


_ENDS = frozenset(["completed", "failed", "expired", "cancelled"])


def _ask_again(state: State, now: Now) -> State:
    def asked(part: Part) -> Part:
        if not part.provisional or not part.final or part.batch_id is None:
            return part
        # Of a batch that was not seen to end, nobody knows whether it has.
        back: PartState = "ended" if part.status in _ENDS else "created"
        return replace(
            part, state=back, due=now.ticks, failures=0, since=None, brief=None, reads=READS, last_ask=True
        )

    again = _each(state, asked)
    return state if again is state else replace(again, ended=None, outcome=None, written=False)


def _woken(state: State, now: Now) -> State:
    def woken(part: Part) -> Part:
        if part.doing is None and not part.final:
            return replace(part, due=now.ticks, failures=0)
        # What is under way may still have had the old token.
        return part if part.final else replace(part, woken=True)

    return replace(_each(state, woken), due=now.ticks, failures=0, stuck=False)


def _along(part: Part, now: Now) -> Part:
    soon = 0.5 * pause_before_next_look(now.ticks - part.born, False)
    if part.open and part.doing is None and part.waits is None and now.ticks < part.due <= now.ticks + soon:
        return replace(part, due=now.ticks)
    return part


def _well(part: Part, now: Now, *, keep: bool = False) -> Part:
    """What was under way went well."""
    kept = part.problem if keep or part.state in ("ended", "fetched", "read") else None
    return replace(
        part,
        doing=None,
        due=now.ticks,
        failures=0,
        since=None,
        brief=None,
        trouble=None,
        waits=None,
        woken=False,
        problem=kept,
    )


def _seen(state: State, part: Part, batch: BatchSeen, operation: Operation, now: Now) -> Part:
    if operation == "create":
        part = replace(
            part, state="created", tried=True, batch_id=batch.batch_id, created_at=now.wall, born=now.ticks
        )
    part = replace(
        part,
        status=batch.status,
        completed=batch.completed,
        failed=batch.failed,
        said_completed=batch.completed,
        said_failed=batch.failed,
        peak=max(part.peak, batch.completed + batch.failed),
        ran=part.ran or not batch.idle or batch.completed > 0,
        deadline=batch.expires_at or part.deadline,
    )
    if operation == "create":
        # What is said of a batch in the moment it is made, or found again, is checked by a look of its own.
        return replace(part, due=now.ticks)
    full = batch.ended and batch.status == "failed" and batch.enqueued
    ran = batch.completed or 0 < batch.failed < part.requests
    if full and not ran and not _no_hope_of_room(state, part):
        # The same file again, as a new batch, when there is room: `_anew`.
        part = replace(part, state="uploaded")
        return _no_room(state, part, batch.problem or "no room for more enqueued tokens", now)
    if batch.ended:
        return replace(part, state="ended", problem=batch.problem)
    ending = batch.status in ("cancelling", "finalizing")
    asked = operation == "cancel" or ending
    near = ending or part.to_now or batch.completed + batch.failed >= 0.95 * max(part.requests, 1)
    part = replace(_looked_at(part, near, now), cancel_asked=asked, last_ask=False, reads=0)
    ends = part.to_now or state.cancelled
    return replace(part, due=now.ticks) if ends and not asked else part


def _looked_at(part: Part, near: bool, now: Now) -> Part:
    """A part with the moment of its next look; ``near``: its end is near, or waited for."""
    pause = pause_before_next_look(now.ticks - part.born, near)
    if not near:
        return replace(part, near=None, due=now.ticks + pause)
    since = now.ticks if part.near is None else part.near
    # An end that takes hours is looked at like anything that takes hours.
    pause = max(pause, pause_before_next_look(now.ticks - since, False))
    return replace(part, near=since, due=now.ticks + pause)


def _no_room(state: State, part: Part, words: str, now: Now) -> Part:
    """
    Wait for room: the provider limits what is enqueued, and our own batches take of it.

    What others enqueue is not ours to see, so after a while it is worth a try in any case; where no batch of ours
    takes any room, not for ever.
    """
    alone = _alone(state, part)
    pause = _doubled(part.refusals, HOLD) if alone else HOLD
    part = replace(
        part, doing=None, waits="room", problem=words, trouble=f"No room at the provider yet: {words}"
    )
    return replace(part, due=now.ticks + pause, refusals=part.refusals + 1 if alone else 0)


def _anew(part: Part, now: Now) -> Part:
    """A part whose batch failed for want of room, and has nothing: its file is to be another batch."""
    part = replace(_well(part, now), state="uploaded", attempt=part.attempt + 1, tried=False, batch_id=None)
    return replace(part, status=None, peak=0, ran=False, problem=None)


def _alone(state: State, part: Part) -> bool:
    return not any(p.open for p in state.parts.values() if p.number != part.number)


def _no_hope_of_room(state: State, part: Part) -> bool:
    return part.refusals >= ROOM_TRIES and _alone(state, part)


def _found(state: State, part: Part, batch: BatchSeen | None, now: Now) -> Part:
    if batch is not None:
        return _seen(state, replace(part, problem=None, seek=False), batch, "create", now)
    believed = part.asked_at + A_CREATE
    if now.ticks < believed:
        words = f"It is not known yet whether a batch was created. Looking again in {believed - now.ticks:,.0f} s."
        return replace(part, due=believed, trouble=words)
    part = replace(part, seek=False, tried=False)
    if state.cancelled:
        return _never_sent(part, "dropped")
    if part.to_now and part.status != "refused":
        return replace(part, due=now.ticks)
    if part.files_sent < TRIES and part.status != "refused":
        # The service may not have found the file: once more from the start, under the same request_id.
        return _sent_again(part, _doubled(part.files_sent), now)
    return _never_sent(part, "refused", part.problem or "the service refused the batch")


def _read(part: Part, event: ReadDone, now: Now) -> Part:
    # Requests that failed in a batch that failed as a whole need not have a line.
    counted = part.said_completed + (part.said_failed if part.status != "failed" else 0)
    promised = part.requests if part.status == "completed" else min(part.requests, counted)
    # Requests that never ran may have lines too: these do not stand for answers that are still to come.
    counted_as_answered = min(part.requests, part.said_completed)
    part = replace(
        part,
        state="read",
        lines=event.lines,
        prompt_tokens=event.prompt_tokens,
        completion_tokens=event.completion_tokens,
        cached_tokens=event.cached_tokens,
        reasoning_tokens=event.reasoning_tokens,
        cost=event.cost,
        errors=event.errors,
    )
    short = part.batch_id is not None and (event.lines < promised or _succeeded(event) < counted_as_answered)
    if short and part.reads < READS and not part.last_ask and not part.provisional:
        # A file may be half, a page, or the second one late. What came can be read meanwhile.
        return replace(part, state="ended", reads=part.reads + 1, due=now.ticks + _doubled(part.reads))
    provisional = part.batch_id is not None and event.lines < part.requests and (
        # Some services do not count what a batch did that was stopped.
        short or part.provisional or (not promised and part.status in ("failed", "expired", "cancelled"))
    )  # fmt: skip
    return replace(
        part, completed=event.completed, failed=event.failed, provisional=provisional, last_ask=False, due=0.0
    )


def _succeeded(event: ReadDone) -> int:
    """How many requests have a line in which the service calls them a success, whatever became of the answer."""
    return event.completed + sum(g.count for g in event.errors if not re.match(NO_SUCCESS, g.code))


def _never_sent(part: Part, status: str, words: str | None = None) -> Part:
    """A part that is not sent, or not on, and is read as it is."""
    return replace(part, state="fetched", status=status, doing=None, waits=None, trouble=None, problem=words)


def _sent_again(part: Part, pause: float, now: Now) -> Part:
    """A part whose file is sent once more."""
    return replace(
        part, state="rendered", file_id=None, files_sent=part.files_sent + 1, due=now.ticks + pause
    )


# -- faults


def _job_failed(state: State, fault: Fault, now: Now) -> State:
    if fault.kind in ("bug", "rows"):
        return replace(state, doing=None, due=float("inf"), trouble=fault.words, stuck=True)
    pause = _doubled(state.failures)
    words = f"{fault.words} Trying again in {pause:,.0f} s."
    return replace(state, doing=None, due=now.ticks + pause, failures=state.failures + 1, trouble=words)


def _verdict(state: State, part: Part, operation: Operation, fault: Fault) -> Verdict:
    rules = POLICY[operation]
    verdict = rules.get(fault.kind, rules["*"])
    if operation in ("upload", "create"):
        if fault.enqueued:
            return Verdict.REFUSED if _no_hope_of_room(state, part) else Verdict.ROOM
        if fault.kind == "refused" and fault.about_file:
            return Verdict.UPLOAD_AGAIN
    return verdict


def _failed(state: State, part: Part, operation: Operation, fault: Fault, now: Now) -> Part:
    verdict = _verdict(state, part, operation, fault)
    pause = _backoff(part, fault)
    if part.woken and verdict in (Verdict.PERSON, Verdict.STUCK):
        return replace(part, doing=None, woken=False, due=now.ticks)
    part = replace(part, doing=None, woken=False)
    if operation == "create" and fault.kind in ("strange", "trouble", "silent", "disk", "bug"):
        # It may have acted all the same.
        part = replace(part, sure=False)
    elif operation == "create" and part.sure and verdict is not Verdict.FIND:
        # The service has refused this very request, and no earlier try of it can have acted.
        part = replace(part, tried=False)
    if operation == "create" and verdict in (Verdict.REFUSED, Verdict.UPLOAD_AGAIN) and part.tried:
        # An earlier try may have acted, though its answer was lost.
        status = "refused" if verdict is Verdict.REFUSED else part.status
        part = replace(part, problem=fault.words, status=status)
        verdict = Verdict.FIND
    if part.last_ask and operation in ("look", "fetch"):
        # Somebody only looked, at a job that is over.
        return _patient(part, operation, fault, verdict, pause, now)
    match verdict:
        case Verdict.WAIT:
            words = f"{fault.words} Trying again in {pause:,.0f} s."
            part = replace(part, failures=part.failures + 1, due=now.ticks + pause, trouble=words)
            return _waits_for_something_else(part, now)
        case Verdict.PERSON:
            words = f"{fault.words} Give a valid token with dobatch.configure(token=...); the job goes on by itself."
            part = replace(part, waits="person", due=now.ticks + A_PERSON, trouble=words)
            return _waits_for_something_else(part, now)
        case Verdict.STUCK:
            return replace(part, waits="stuck", due=float("inf"), trouble=fault.words)
        case Verdict.ROOM:
            return _waits_for_something_else(_no_room(state, part, fault.words, now), now)
        case Verdict.UPLOAD_AGAIN:
            if part.files_sent >= TRIES:
                return _never_sent(part, "refused", fault.words)
            words = f"{fault.words} Sending the file again."
            return replace(_sent_again(part, pause, now), failures=part.failures + 1, trouble=words)
        case Verdict.FIND:
            return replace(
                part, problem=fault.words, seek=True, due=now.ticks + (pause if part.files_sent else 0.0)
            )
        case Verdict.REFUSED:
            return _never_sent(part, "refused", fault.words)
        case Verdict.NEXT_LOOK:
            trouble = None if fault.kind == "conflict" else f"{fault.words} The next look asks again."
            return replace(_looked_at(part, part.to_now, now), cancel_asked=True, trouble=trouble)
        case Verdict.PATIENT | Verdict.BRIEF:
            return _patient(part, operation, fault, verdict, pause, now)


def _waits_for_something_else(part: Part, now: Now) -> Part:
    """A night without a token, or without a network, uses up no hope for what was told before it."""
    pause = part.due - now.ticks
    since, brief = (None if begun is None else begun + pause for begun in (part.since, part.brief))
    return replace(part, since=since, brief=brief)


def _patient(
    part: Part, operation: Operation, fault: Fault, verdict: Verdict, pause: float, now: Now
) -> Part:
    """Ask again while there is hope; then the rows have codes that stand until somebody looks again."""
    hope = PATIENCE
    if verdict is Verdict.BRIEF:
        hope = A_WHILE if operation == "upload" else FEW
    elif operation == "fetch" and _nothing_to_have(part) and fault.kind in _SAID:
        # That a batch has nothing is believed sooner where nothing is done because of it, or where it was not begun.
        hope = 2.0 if part.status == "failed" and not (part.unsent and part.ran) else FEW
        if part.to_now and part.peak:
            hope = PATIENCE  # it has done something: that is not bought again
    # Each hope has its own clock: what is told once after hours of something else passes too.
    if hope == PATIENCE:
        part = replace(part, since=now.ticks if part.since is None else part.since)
        begun = part.since
    else:
        part = replace(part, brief=now.ticks if part.brief is None else part.brief)
        begun, pause = part.brief, min(pause, hope / 4)
    assert begun is not None
    if not part.last_ask and now.ticks - begun + pause <= hope:
        words = f"{fault.words} Trying again in {pause:,.0f} s."
        return replace(part, failures=part.failures + 1, due=now.ticks + pause, trouble=words)
    if operation == "upload":
        return _never_sent(part, "refused", fault.words)
    if part.unsent and fault.kind in _SAID:
        return _anew(part, now)
    # What is on disk is read; what the service may still have is asked for when somebody looks.
    problem = part.problem or fault.words
    return replace(part, state="fetched", provisional=True, due=now.ticks, trouble=None, problem=problem)


_SAID: frozenset[FaultKind] = frozenset(["refused", "unknown", "conflict", "gone", "not_ready", "no_object"])
"""What the service itself may say of results that do not exist."""


def _nothing_to_have(part: Part) -> bool:
    """Whether a batch ended without having done anything, as far as its counters tell."""
    return part.status in ("failed", "expired", "cancelled") and part.said_completed == 0


# -- in real time

AT_ONCE = 8  # requests that are asked at the same time
ASSUMED = 8.0  # seconds that a request takes while nobody has measured it
RATES = ((240, 60.0), (4_800, 3600.0))  # a little below what the service allows: looks take of it, too
REST = 50_000  # added to a part's number: what its batch did not run


def next_number(parts: Iterable[int]) -> int:
    """Return the number of a new part, which is never that of what another's batch did not run."""
    return max((number for number in parts if number < REST), default=-1) + 1


CARRIED = frozenset(["cancelled", "expired"])
"""Codes of requests that a batch gave back without running them."""


def seconds_in_real_time(requests: int, pace: float) -> float:
    """Return the seconds that asking so many requests takes, at the speed that was measured and within the rate limits."""
    if requests <= 0:
        return 0.0
    calls = -(-requests // AT_ONCE) * (pace or ASSUMED)
    return max(calls, *(((requests - 1) // most) * period for most, period in RATES))


def left_to_answer(state: State) -> int:
    """Return how many requests nobody has answered yet, as far as the service's counters tell."""
    parts = [part for part in state.parts.values() if not part.final]
    return sum(max(0, part.requests - part.completed - part.failed) for part in parts)


def switch_at(state: State) -> float | None:
    """
    Return the last safe moment, in Unix seconds, at which batches end and the rest is asked in real time.

    The time that the rest takes, a quarter of it more, and the margin (for batches that drain) before the deadline.
    """
    if state.deadline is None:
        return None
    return state.deadline - state.margin - 1.25 * seconds_in_real_time(left_to_answer(state), state.pace)


def _made_live(part: Part) -> Part:
    return replace(part, live=True, bound=part.bound_now, waits=None, trouble=None, problem=None)


def _carried(part: Part, rest: Part) -> tuple[Part, Part]:
    """What a batch has not run goes on as a part of its own, whatever else it may owe."""
    # What goes on has a bound of its own: that of the batch is for what it has run.
    ran = None if part.bound is None or rest.bound is None else max(0.0, part.bound - rest.bound)
    part = replace(_asked_again(part, CARRIED), provisional=part.provisional and part.owes, bound=ran)
    return part, replace(_made_live(rest), round=part.round + 1)


def _owed(part: Part, event: ReadDone) -> bool:
    """Whether a batch that has ended may still have answers that nobody has seen: these are not bought again."""
    counted = part.said_completed + part.said_failed
    # A line may say that a request was not run: it does not stand for one that was, and whose line is missing.
    ran = event.completed + sum(g.count for g in event.errors if g.code not in (*CARRIED, "missing_result"))
    hidden = event.lines < part.requests and ran < min(part.requests, counted)
    return part.peak > counted or hidden or _succeeded(event) < part.said_completed


def _wait_for_what_is_owed(part: Part, now: Now) -> Part:
    """Bring the results in again, as long as there is hope; the service's counters stay what is owed."""
    words = "The batch was ended for the deadline, and answers that it gave are not there yet: they are not bought again."
    due = now.ticks + _doubled(part.reads, LONGEST_LOOK)
    return replace(part, state="ended", reads=part.reads + 1, due=due, trouble=words)


def affordable(state: State, part: Part) -> bool:
    """Whether a part may be asked in real time, or whatever its batch has not run: each request is paid once."""
    if state.max_cost is None:
        return True
    others = [
        other.bound if other.live and not other.final else _committed(other)
        for other in state.parts.values()
        if other is not part
    ]
    if part.bound_now is None or None in others:
        return False
    return sum(other or 0.0 for other in others) + part.bound_now <= state.max_cost + 1e-9


def _switch(state: State, now: Now) -> State:
    """At the last safe moment what is not sent is asked in real time, and batches are to end."""
    at = switch_at(state)
    if at is None or state.cancelled:
        return state if state.switch_due == float("inf") else replace(state, switch_due=float("inf"))
    if not state.switched and now.wall < at:
        return replace(state, switch_due=now.ticks + at - now.wall)
    state = replace(state, switched=True, switch_due=float("inf"))
    for part in list(state.parts.values()):
        if part.live or part.to_now or part.final or part.doing in ("upload", "create", "find", "read"):
            continue
        if not affordable(state, part):
            continue  # its batch goes on, whatever the time
        if part.unsent and not part.tried:
            part = replace(_made_live(part), due=now.ticks)
        else:
            due = now.ticks if part.doing is None else part.due
            part = replace(part, to_now=True, due=due, waits=None)
        state = _with(state, part)
    return state


# -- planning


def _plan(state: State, now: Now) -> tuple[State, list[Action]]:
    actions: list[Action] = []
    if state.ended is not None or state.left:
        return state, actions
    if state.doing == "output" and not state.send_only:
        return state, actions  # an answer that came in meanwhile would not be in it
    state = _switch(state, now)
    if not state.rendered and state.doing is None and state.due <= now.ticks:
        state = replace(state, doing="render")
        actions.append(Render())
    for number in sorted(state.parts):
        part = state.parts[number]
        if part.doing is not None or part.final or part.due > now.ticks:
            continue
        part, action = _next(state, part, now)
        if part is not state.parts[number]:
            state = _with(state, part)
        if action is not None:
            actions.append(action)
    settled = state.rendered or (state.cancelled and state.stuck)
    settled = settled and all(part.final for part in state.parts.values())
    if settled and (state.written or not state.output):
        state = _ended(state, now)
    elif state.send_only:
        sent = not any(_to_send(state, part) for part in state.parts.values())
        if sent and (state.rendered or state.stuck):
            state = replace(state, left=True)
    elif settled and state.doing is None and state.due <= now.ticks:
        state = replace(state, doing="output")
        actions.append(WriteOutput())
    return state, actions


def _to_send(state: State, part: Part) -> bool:
    """Whether a process that is about to end still has something to do for a part."""
    if part.open:
        return state.cancelled and not part.cancel_asked
    # What waits for a person does not keep the process.
    return part.unsent and part.waits not in ("person", "budget", "stuck")


def _next(state: State, part: Part, now: Now) -> tuple[Part, Action | None]:
    """Return what a part that is due does next."""
    if part.live and part.unsent:
        return _ask(state, part)
    if part.unsent and part.batch_id is not None:
        # It failed for want of room. Whatever it was run for all the same is not paid again.
        return replace(part, doing="fetch"), Fetch(part.number, part.batch_id)
    if part.unsent and (state.cancelled or part.to_now):
        if part.tried:
            # Its create may have acted, though nobody heard: then the batch is to be cancelled.
            return replace(part, doing="find"), Find(part.number, request_id(state.id, part))
        if not state.cancelled:
            # Nothing was created after all.
            return _ask(state, _made_live(replace(part, to_now=False)))
        part = _never_sent(part, "dropped")
    match part.state:
        case "rendered":
            return replace(part, doing="upload"), Upload(part.number)
        case "uploaded":
            return _create(state, part, now)
        case "created":
            assert part.batch_id is not None
            ends = state.cancelled or (part.to_now and part.status != "finalizing")
            if ends and not part.cancel_asked:
                return replace(part, doing="cancel"), CancelBatch(part.number, part.batch_id)
            if state.send_only:
                return part, None
            return replace(part, doing="look"), Look(part.number, part.batch_id)
        case "ended":
            assert part.batch_id is not None
            if state.send_only:
                return part, None
            again = part.reads > 0 or part.attempt > 0  # what there is may be of the batch before
            return replace(part, doing="fetch"), Fetch(part.number, part.batch_id, again)
        case "fetched":
            carry = part.to_now or (
                state.deadline is not None and part.status == "expired" and affordable(state, part)
            )
            carry = carry and not state.cancelled and not part.live and part.batch_id is not None
            carry = carry and part.number + REST not in state.parts
            return replace(part, doing="read"), Read(part.number, *why_missing(part), carry)
    return part, None


def _create(state: State, part: Part, now: Now) -> tuple[Part, Action | None]:
    assert part.file_id is not None
    if part.seek:
        return replace(part, doing="find"), Find(part.number, request_id(state.id, part))
    words = _over_budget(state, part)
    if words is not None:
        return _held(part, words), None
    create = Create(part.number, part.file_id, request_id(state.id, part))
    sure = part.sure or not part.tried
    return replace(part, doing="create", tried=True, sure=sure, waits=None, asked_at=now.ticks), create


def _ask(state: State, part: Part) -> tuple[Part, Action | None]:
    if state.cancelled:
        part = _never_sent(part, "cancelled" if part.tried else "dropped")
        return replace(part, doing="read"), Read(part.number, *why_missing(part))
    words = _over_budget(state, part)
    if words is not None:
        return _held(part, words), None
    return replace(part, doing="ask", tried=True, waits=None), Ask(part.number)


def _held(part: Part, words: str) -> Part:
    return replace(part, waits="budget", due=float("inf"), trouble=words)


def _over_budget(state: State, part: Part) -> str | None:
    """Why a part must not be sent: the one gate that all money goes through."""
    if state.max_cost is None or part.tried:
        return None
    cure = "job.allow(max_cost=...) goes on, job.cancel() ends the job with what is answered."
    unknown = [p.number for p in state.parts.values() if _committed(p) is None]
    if part.bound is None or unknown:
        which = "it" if part.bound is None else f"part {unknown[0]}"
        return (
            f"Part {part.number} is held: nobody could say so far what {which} costs at most, and max_cost is set. Give the "
            f"price of the model with dobatch.configure(prices=...) where no list has it; then {cure}"
        )
    spent = committed(state)
    # A tolerance far below a cent: sums of bounds are not exact.
    if spent + part.bound <= state.max_cost + 1e-9:
        return None
    unseen = [p.number for p in state.parts.values() if p.final and _committed(p) not in (p.cost, 0.0)]
    why = f" Part {unseen[0]} counts at its bound: nobody knows how much of it was run." if unseen else ""
    return (
        f"Part {part.number} is held: it may cost {in_dollars(part.bound)}, {in_dollars(spent)} is spent or committed, and "
        f"max_cost is {in_dollars(state.max_cost)}.{why} {cure}"
    )


def why_missing(part: Part) -> tuple[str, str]:
    """Return the code and the words for a request that has no line in the batch's files."""
    reason = part.problem or "no reason given"
    if part.owes:
        return (
            "missing_result",
            "The batch has counted more answers than its files hold: this may be one of them.",
        )
    match part.status:
        case "dropped":
            return "cancelled", "Cancelled before it was sent."
        case "refused":
            return "batch_failed", f"The service refused the batch: {reason}"
        case "expired":
            return "expired", "The batch's 24 hours ended before this request was run."
        case "cancelled":
            return "cancelled", "The batch was cancelled before this request was run."
        case "failed":
            return "batch_failed", f"The service refused the whole batch: {reason}"
    if part.provisional:
        return "missing_result", f"The service gives no result for this request so far: {reason}"
    return "missing_result", "The service's files have no line for this request."


def _ended(state: State, now: Now) -> State:
    parts = list(state.parts.values())
    # What counts is how the last try ended.
    newest = max((part.round for part in parts), default=0)
    last = [part for part in parts if part.round == newest]
    words = {"cancelled" if part.status == "dropped" else part.status for part in last}
    outcome: Outcome = "completed" if state.rendered else "cancelled"
    if words and words <= {"failed", "refused"} and not state.reused and not any(p.completed for p in parts):
        outcome = "failed"
    elif words & {"cancelled", "expired"}:
        outcome = "expired" if "expired" in words else "cancelled"
    # A batch that was ended for a deadline may owe answers, though the rest went on in a round of its own.
    told = [part for part in parts if part.round == newest or (part.to_now and part.provisional)]
    bad = [(part, said) for part in told if (said := problem_of_part(part))]
    problem = None
    if bad:
        first, why = bad[0]
        which = f"{len(bad)} of {len(told)} batches" if len(told) > 1 else "The batch"
        problem = f"{which} failed: {why}"
        if first.provisional and first.status != "failed":
            what = "not all results" if first.lines else "no results"
            problem = f"{which} gave {what} so far: {why}"
    return replace(state, ended=now.wall, outcome=outcome, problem=problem)


def problem_of_part(part: Part) -> str | None:
    """Return what is wrong with a part, now or at its end."""
    if part.trouble or part.problem or not (part.final and part.provisional):
        return part.trouble or part.problem
    return f"its files have a line for {part.lines:,} of {part.requests:,} requests"


def next_due(state: State) -> float | None:
    """Return the ticks at which a `Tick` is useful; None where only an event leads on."""
    if state.over or (state.doing == "output" and not state.send_only):
        return None
    dues = [
        part.due
        for part in state.parts.values()
        if part.doing is None and not part.final and not (state.send_only and not _to_send(state, part))
    ]
    if not state.switched:
        dues.append(state.switch_due)
    waits_to_write = state.rendered and state.output and all(part.final for part in state.parts.values())
    if state.doing is None and (not state.rendered or waits_to_write):
        dues.append(state.due)
    soonest = min(dues, default=None)
    return None if soonest is None or soonest == float("inf") else soonest


def problem_of(state: State) -> tuple[str | None, bool]:
    """Return why the job does not move, or did not end well, and whether a person is needed."""
    if state.ended is not None:
        return state.problem, False
    parts = [part for part in state.parts.values() if not part.final]
    held = [part for part in parts if part.waits in ("person", "stuck", "budget")]
    if state.stuck:
        return state.trouble, True
    for part in held:
        if part.waits == "person":
            return part.trouble, True
    troubled = [part.trouble for part in parts if part.trouble]
    # What is held up for a person may have others beside it that go on.
    return state.trouble or next(iter(troubled), None), bool(held) and len(held) == len(
        parts
    ) and state.rendered


# -- small things


def _with(state: State, part: Part) -> State:
    return replace(state, parts={**state.parts, part.number: part})


def _each(state: State, change: Any) -> State:
    changed = {number: change(part) for number, part in state.parts.items()}
    if all(changed[number] is part for number, part in state.parts.items()):
        return state
    return replace(state, parts=changed)
