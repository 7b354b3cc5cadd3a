"""Which slow statements get a plan, so that asking for plans never costs more than it is allowed to."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Final, Literal

from querytoll.settings import Settings

Denial = Literal["cached", "refused", "budget"]

_BURST: Final = 5
"""Minutes' worth of the floor that may be saved up."""


class Budget:
    """One plan per fingerprint and interval, a share of the database time with a floor, and no statement tried in vain.

    Args:
        settings: intervals and shares.
        clock: seconds that only go forward. A default argument, because freezegun replaces the clocks of modules.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = Lock()
        self._due: OrderedDict[str, tuple[float, Denial]] = OrderedDict()
        self._share = settings.explain_share
        self._seen = 0.0
        self._most = settings.explain_floor_seconds * _BURST
        self._credit = self._most
        self._filled = clock()

    def denial(self, fingerprint: str) -> Denial | None:
        """Why the statement gets no plan now; None: it does, and not again within the interval."""
        with self._lock:
            now = self._clock()
            due, denial = self._due.get(fingerprint, (now, "cached"))
            if now < due:
                return denial
            self._fill(now)
            if self._credit <= 0:
                return "budget"
            self._remember(fingerprint, now + self._settings.explain_interval_seconds, "cached")
            return None

    def refuse(self, fingerprint: str) -> None:
        """Do not try the statement again for long: it cannot be explained."""
        with self._lock:
            self._remember(fingerprint, self._clock() + self._settings.explain_retry_seconds, "refused")

    def observe(self, seconds: float) -> None:
        """Take note of time that the application spent in the database.

        For each request, hence without the lock: of what threads note at the same moment, some may be lost.
        """
        self._seen += seconds

    def spend(self, seconds: float) -> None:
        """Take note of time that EXPLAINs took."""
        with self._lock:
            self._credit -= seconds

    def _fill(self, now: float) -> None:
        seen, self._seen = self._seen, 0.0
        earned = (now - self._filled) * self._settings.explain_floor_seconds / 60 + seen * self._share
        self._credit, self._filled = min(self._most, self._credit + earned), now

    def _remember(self, fingerprint: str, due: float, denial: Denial) -> None:
        self._due[fingerprint] = (due, denial)
        self._due.move_to_end(fingerprint)
        while len(self._due) > 2 * self._settings.max_plans:
            self._due.popitem(last=False)
