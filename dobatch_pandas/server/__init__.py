"""The embedded server: the batch service on your own machine, to try out, to test, and to run models."""

from .faults import Failure, Fault, Faults
from .local import LocalServer
from .shapes import Reply
from .validation import FileLimits

__all__ = ["Failure", "Fault", "Faults", "FileLimits", "LocalServer", "Reply"]
