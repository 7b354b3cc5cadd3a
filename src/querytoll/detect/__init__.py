"""Closed traces to findings."""

from __future__ import annotations

from querytoll.detect.ignoring import Ignoring
from querytoll.detect.judgement import judge
from querytoll.detect.rules import RULES, default_detectors

__all__ = ["RULES", "Ignoring", "default_detectors", "judge"]
