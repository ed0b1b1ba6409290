"""Checks that report problems in a dataset and how to fix them: `pixelwise check`.

`findings.CODES` lists every code with its severity and meaning. Each module contains the checks of one kind of
problem. A check yields at most one finding per code (and fix, where these differ), so 500 broken files are
one finding. This module does not import PyTorch or OpenCV, so that the command line starts quickly.
"""

from pixelwise.checks.findings import CODES, CheckReport, Finding, Severity

__all__ = ["CODES", "CheckReport", "Finding", "Severity"]
