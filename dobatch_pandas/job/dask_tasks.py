"""Having Dask compute something, wherever it does: on the workers of a cluster, or in threads of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from dobatch_pandas.errors import ConfigurationError, ConnectionFailed, DobatchError
from dobatch_pandas.service.client import Client

from .on_worker import Asker, checked, counted_here, turns_at

__all__ = ["compute", "count_calls", "look_at_workers", "persisted"]


def compute(*tasks: Any) -> list[Any]:
    """
    Return what some tasks come to.

    Raises
    ------
    ConnectionFailed
        The cluster has lost them; they can be tried again.
    DobatchError
        With the words of whatever a task of the frame's own raised.
    """
    import dask

    with _in_words():
        return list(dask.compute(*tasks))  # type: ignore[attr-defined, no-untyped-call]


def persisted(tasks: Sequence[Any]) -> list[Any]:
    """Have tasks computed, and return the names of what stays where it was computed."""
    import dask

    with _in_words():
        return list(dask.persist(*tasks)) if tasks else []  # type: ignore[attr-defined, no-untyped-call]


@contextmanager
def _in_words() -> Iterator[None]:
    """Have what Dask raises told as an error of ours."""
    try:
        yield
    except DobatchError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        raise _meaning_of(error) from error


def _meaning_of(error: BaseException) -> DobatchError:
    lost: tuple[type[BaseException], ...] = (OSError, TimeoutError, asyncio.CancelledError)
    with suppress(ImportError):
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError
        from distributed.shuffle._exceptions import P2PConsistencyError, ShuffleClosedError

        lost += (KilledWorker, FutureCancelledError, CommClosedError, P2PConsistencyError, ShuffleClosedError)
    words = f"{type(error).__name__}: {error}"[:500]
    if isinstance(error, lost) or "P2P" in words:
        return ConnectionFailed(f"The cluster has lost what it was at: {words}.")
    return DobatchError(f"The frame cannot be computed: {words}")


def _distributed() -> Any:
    """The client of the cluster that computes now; None where this machine does."""
    from dask.base import get_scheduler

    with suppress(ImportError):
        from distributed import Client as Cluster

        client = getattr(get_scheduler(), "__self__", None)  # type: ignore[no-untyped-call]
        return client if isinstance(client, Cluster) else None
    return None


def look_at_workers(asker: Asker) -> None:
    """
    Find out before anything is computed whether every worker can work for us.

    Raises
    ------
    ConfigurationError
        With what is wrong with which of them.
    """
    words = checked(asker)
    if words is not None:
        raise ConfigurationError(words)
    cluster = _distributed()
    if cluster is None:
        return
    with _in_words():
        told = cluster.run(checked, asker, on_error="return")
    wrong: dict[str, list[str]] = {}
    for address, words in told.items():
        if words is not None:
            said = words if isinstance(words, str) else f"cannot run dobatch_pandas: {words}"[:300]
            wrong.setdefault(said, []).append(address)
    if wrong:
        listed = "; ".join(
            f"{', '.join(some[:5])}{' ...' if len(some) > 5 else ''}: {w}" for w, some in wrong.items()
        )
        raise ConfigurationError(f"Not every worker can work for this job, and nothing is sent: {listed}")


def count_calls(client: Client) -> None:
    """Have this process count the calls that workers make by themselves, and let them through one by one, as its own."""
    cluster = _distributed()
    if cluster is None:
        return
    from distributed import Queue

    async def asked(event: Any) -> None:
        answer, stay_away = event[1]
        if stay_away:
            client.caller.stay_away(stay_away)
        queue: Any = await Queue(answer, client=cluster)  # type: ignore[no-untyped-call]
        await queue.put(client.caller.turn_now())
        queue.close()

    topic = turns_at(client.base_url)
    counted_here.add(topic)
    cluster.subscribe_topic(topic, asked)
