"""What makes two questions the same one: a hash of the recipe, of the service, and of every value that is asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import blake2b

import pyarrow as pa

from dobatch_pandas.arrow.columns import WORKERS
from dobatch_pandas.questions.recipe import Recipe

from .store import as_json

__all__ = ["fingerprint"]

SIZE = 16  # bytes


def fingerprint(recipe: Recipe, salt: str, pieces: Iterable[pa.RecordBatch]) -> str:
    """
    Return hex digits that are the same for the same question over the same values in the same order.

    Parameters
    ----------
    recipe : Recipe
    salt : str
        What else makes this question another one: the address of the service.
    pieces : iterable of pyarrow.RecordBatch
        The values, as `Recipe.freeze` cuts them. Each is hashed by itself, while the next one is made.
    """
    every = blake2b(salt.encode(), digest_size=SIZE)
    every.update(as_json(recipe.to_json()).encode())
    pending: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="dobatch-hash") as pool:
        for piece in pieces:
            pending.append(pool.submit(_hashed, piece))
            if len(pending) > WORKERS:
                every.update(pending.popleft().result())
        for digest in pending:
            every.update(digest.result())
    return every.hexdigest()


def _hashed(piece: pa.RecordBatch) -> bytes:
    # The bytes of the columns alone: an Arrow message holds neither padding of slices nor addresses.
    return blake2b(piece.serialize(), digest_size=SIZE).digest()
