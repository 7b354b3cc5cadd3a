"""What profiling took and what requests took to the share of requests that is profiled."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock
from typing import Final

INTERVAL_SECONDS: Final = 10.0
"""Least time between two decisions."""
INTERVAL_REQUESTS: Final = 200
"""Requests, profiled or not, that a decision needs."""
PROFILED_REQUESTS: Final = 20
"""Profiled ones among them, however few are profiled."""
LONGEST_SECONDS: Final = 1.0
"""What one request counts at most: a stream that is open for minutes is not slowed by its own profile."""
NOTICEABLE_LOAD: Final = 0.01
"""Share of one core that profiling may always take: below it, whatever the share of requests, nobody gains."""
LEAST_RATE: Final = 0.01
"""The rate that is never gone below, unless the configured one is lower."""
RECOVERY: Final = 0.75
"""How near to the limit the doubled rate may come, so that the rate does not swing."""

_log: Final = logging.getLogger("querytoll")


class BackOff:
    """Halves the rate while profiling takes more than its share of the time of requests, doubles it when it may again.

    Requests that are not profiled are taken to be like those that are, so that half the rate is half the share.
    The clock is a default argument, where freezegun does not find it.

    Args:
        sample_rate: the configured rate, which is also the highest.
        max_share: the share that profiling may take; 1: whatever it takes.
        clock: seconds that only go forward.

    Attributes:
        rate: share of requests to profile now.
    """

    def __init__(self, sample_rate: float, max_share: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = sample_rate
        self._highest = sample_rate
        self._lowest = min(sample_rate, LEAST_RATE)
        self._max_share = max_share
        self._clock = clock
        self._lock = Lock()
        self._restart(clock())

    def spent(self, seconds: float, request_seconds: float, requests: int = 1) -> bool:
        """Take what profiling requests took, of the requests' own time; tell whether that changed the rate.

        Args:
            seconds: that profiling took.
            request_seconds: that the requests took, each of them `LONGEST_SECONDS` at most.
            requests: how many.
        """
        with self._lock:
            self._requests += requests
            self._own += seconds
            self._elapsed += request_seconds
            if self._requests < max(INTERVAL_REQUESTS * self.rate, PROFILED_REQUESTS):
                return False
            now = self._clock()
            interval = now - self._since
            return interval >= INTERVAL_SECONDS and self._decide(now, interval)

    def _decide(self, now: float, interval: float) -> bool:
        """Compare the interval with the limit, and begin the next; the lock is held."""
        before, share = self.rate, self._share()
        # Above 1 where profiling takes more than it may, of requests and of a core.
        pressure = min(share / self._max_share, self._own / interval / NOTICEABLE_LOAD)
        if pressure > 1 and self._max_share < 1:
            self.rate = max(before / 2, self._lowest)
        elif pressure * 2 < RECOVERY:
            self.rate = min(before * 2, self._highest)
        if self.rate != before:
            self._tell(before, share)
        self._restart(now)
        return self.rate != before

    def _share(self) -> float:
        """Share of the time of all requests, those that were not profiled included."""
        return self._own / self._elapsed * self.rate if self._elapsed > 0 else 0.0

    def _tell(self, before: float, share: float) -> None:
        _log.log(
            logging.WARNING if self.rate < before else logging.INFO,
            "querytoll took %.1f %% of the time of requests (max_self_share: %.1f %%; %.0f ms for %d profiled ones): "
            "from now on it profiles %.3g %% of the requests instead of %.3g %%",
            share * 100,
            self._max_share * 100,
            self._own * 1_000,
            self._requests,
            self.rate * 100,
            before * 100,
        )

    def _restart(self, now: float) -> None:
        self._since = now
        self._requests = 0
        self._own = self._elapsed = 0.0
