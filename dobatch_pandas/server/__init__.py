"""The embedded server: the batch service on your own machine, to try out, to test, and to run models."""

import logging

from .faults import Failure, Fault, Faults
from .local import LocalServer
from .shapes import Reply
from .validation import FileLimits

# Whoever wants to read it adds a handler; without one Python would print it into notebooks.
logging.getLogger("dobatch_pandas.server").addHandler(logging.NullHandler())

__all__ = ["Failure", "Fault", "Faults", "FileLimits", "LocalServer", "Reply"]
