"""One job, moved on: recorded, rendered, sent, watched, collected, shown to rows."""

from __future__ import annotations

from .job import Job

__all__ = ["Job"]
