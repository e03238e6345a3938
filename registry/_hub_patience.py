"""Waiting for a Hub that is busy: as long as it says, up to a bound, and in growing steps where it says nothing.

The client does so itself for uploads and downloads; for everything else it raises at the first 429 or 503.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from registry._hub_errors import Busy, translated

T = TypeVar("T")

LONGEST_WAIT = 300.0
"""Seconds that one answer may ask us to wait; what asks for more is told to the user instead."""
LONGEST = 900.0
"""Seconds that are waited for one call, all its waits together."""
_STEPS = (1.0, 2.0, 4.0, 8.0, 16.0)


class Gate:
    """What one thread is told to wait, all wait: a limit is the account's, and more requests only prolong it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opens = 0.0

    def close(self, seconds: float) -> None:
        """Let no request begin for so long."""
        with self._lock:
            self._opens = max(self._opens, now() + seconds)

    def enter(self) -> None:
        """Wait until it is open, but no longer than one answer may ask for: others may go on closing it."""
        left = LONGEST_WAIT
        while left > 0 and (seconds := min(left, self._opens - now())) > 0:
            rest(seconds)
            left -= seconds


gate = Gate()


class Patience:
    """What is left of the waiting for one call. Count waits, not clocks: a call that is slow is not one that is busy."""

    def __init__(self) -> None:
        self._left = LONGEST
        self._steps = iter(_STEPS)

    def waits(self, busy: Busy) -> bool:
        """Wait before the next try; False where it is not worth it any more."""
        step = next(self._steps, None)
        if step is None and busy.wait is None:
            return False
        seconds = step if busy.wait is None else busy.wait + 1  # the Hub counts whole seconds
        if seconds is None or seconds > min(self._left, LONGEST_WAIT + 1):
            return False
        self._left -= seconds
        if busy.wait is not None:
            gate.close(seconds)
        # Those who were turned away together do not come back together.
        sleep(seconds + random.uniform(0, seconds / 4))  # noqa: S311
        return not _stopped().is_set()


def patiently(doing: str, call: Callable[[], T]) -> T:
    """Make a call of the client that may be repeated, and raise our errors for its own."""
    patience = Patience()
    while True:
        try:
            with translated(doing):
                return call()
        except Busy as busy:
            if not patience.waits(busy):
                raise


@contextmanager
def until(stopped: threading.Event) -> Iterator[None]:
    """Once this is set, no wait of this thread inside the block goes on, and none is begun."""
    _here.stopped = stopped
    try:
        yield
    finally:
        del _here.stopped


_here = threading.local()
_never = threading.Event()


def _stopped() -> threading.Event:
    found: threading.Event = getattr(_here, "stopped", _never)
    return found


def now() -> float:
    """The clock of the gate, which only goes forward."""
    return time.monotonic()


def sleep(seconds: float) -> None:
    """The one place that sleeps."""
    _stopped().wait(seconds)


def rest(seconds: float) -> None:
    """And the one before the gate."""
    _stopped().wait(seconds)
