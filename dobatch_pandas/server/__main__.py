"""``python -m dobatch_pandas.server``: the same as ``dobatch serve``."""

from .command import serve

raise SystemExit(serve())
