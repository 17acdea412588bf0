"""The real JupyterLab, for the tests of this folder."""

from browser import lab, lab_session  # noqa: F401  fixtures
