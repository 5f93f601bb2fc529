"""Proof by a path of its own that the control database says what the sources say.

Each mapping is compiled once more, to SQL that runs where the rows are, and both sides are compared
row by row. Nothing here runs the generated row mappers; ``preview`` shows what the mapping does.
"""

from cdc_daemon.verify.hashes import content_hashes
from cdc_daemon.verify.preview import Preview, preview
from cdc_daemon.verify.report import Example, MappingReport, Report
from cdc_daemon.verify.verification import verify

__all__ = [
    "Example",
    "MappingReport",
    "Preview",
    "Report",
    "content_hashes",
    "preview",
    "verify",
]
