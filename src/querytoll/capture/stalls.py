"""Event-loop stalls: when an open window's loop could not run, so that answers waited unseen."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Final
from weakref import WeakKeyDictionary, ref

Interval = tuple[float, float]

TICK_SECONDS: Final = 0.01
STALL_SECONDS: Final = 0.01
"""Lateness of a tick that is a stall; less is the ordinary work of other requests."""
_MAX_STALLS: Final = 256


class StallSampler:
    """Ticks while windows are open on one event loop; a late tick is a stall.

    A stall is measured from the moment the tick was due, hence never longer than it was.

    Attributes:
        loop: the event loop.
        windows: open ones.
        ticking: a tick is to come.
    """

    __slots__ = ("_context", "_due", "_now", "_stalls", "loop", "ticking", "windows")

    def __init__(self, loop: asyncio.AbstractEventLoop, now: Callable[[], float]) -> None:
        # The sampler must not keep the loop, whose life decides on its own.
        self.loop = ref(loop)
        self._now = now
        # Ticks go on from request to request: the first one's context, with its window, is not kept.
        self._context = Context()
        self.windows = 0
        self.ticking = False
        self._due = 0.0
        self._stalls: deque[Interval] = deque(maxlen=_MAX_STALLS)

    def opened(self) -> None:
        """A window opened: see to it that the clock ticks."""
        self.windows += 1
        if not self.ticking:
            self.ticking = True
            self._wait()

    def closed(self) -> None:
        """A window closed; the last one lets the next tick be the last."""
        self.windows -= 1

    def since(self, moment: float) -> list[Interval]:
        """Return the stalls that ended after the moment, oldest first."""
        recent: list[Interval] = []
        # A copy: a large trace is made in a thread, while the loop goes on ticking.
        for stall in reversed(tuple(self._stalls)):
            if stall[1] <= moment:
                break
            recent.append(stall)
        recent.reverse()
        return recent

    def _wait(self) -> None:
        loop = self.loop()
        if loop is not None:
            self._due = self._now() + TICK_SECONDS
            loop.call_later(TICK_SECONDS, self._tick, context=self._context)

    def _tick(self) -> None:
        now = self._now()
        if now - self._due > STALL_SECONDS:
            self._stalls.append((self._due, now))
        if self.windows > 0:
            self._wait()
        else:
            self.ticking = False


class StallSamplers:
    """One sampler per event loop, for as long as the loop lives."""

    # The clock is kept as a default argument, where freezegun does not find it.
    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._samplers: WeakKeyDictionary[asyncio.AbstractEventLoop, StallSampler] = WeakKeyDictionary()
        self._latest: StallSampler | None = None

    def opened(self) -> StallSampler | None:
        """A window opened: see to it that the clock of the running event loop ticks; None outside of one."""
        loop = asyncio._get_running_loop()
        if loop is None:
            return None
        sampler = self._latest
        if sampler is None or sampler.loop() is not loop:
            sampler = self._latest = self._of(loop)
        if sampler.ticking:
            # As `StallSampler.opened` does, without the price of a call per request.
            sampler.windows += 1
        else:
            sampler.opened()
        return sampler

    def _of(self, loop: asyncio.AbstractEventLoop) -> StallSampler:
        sampler = self._samplers.get(loop)
        if sampler is None:
            sampler = self._samplers[loop] = StallSampler(loop, self._now)
        return sampler


def overlap(start: float, end: float, stalls: Sequence[Interval]) -> float:
    """Return the seconds of start..end that lie in stalls, which are in order of time."""
    total = 0.0
    for place in range(bisect_right(stalls, start, key=_end), len(stalls)):
        since, until = stalls[place]
        if since >= end:
            break
        total += min(end, until) - max(start, since)
    return total


def _end(stall: Interval) -> float:
    return stall[1]
