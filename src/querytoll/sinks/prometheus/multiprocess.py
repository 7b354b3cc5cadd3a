"""The client's multiprocess mode, in which numbers are kept in files."""

from __future__ import annotations

import os

from prometheus_client.values import ValueClass


def is_multiprocess() -> bool:
    """Tell whether the client keeps its numbers in files, as it decided when it was imported."""
    return bool(getattr(ValueClass, "_multiprocess", "PROMETHEUS_MULTIPROC_DIR" in os.environ))
