"""What a test may ask of the server: a record of the requests, and trouble on demand or by chance."""

import random
import re
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.responses import JSONResponse, Response

from registry.testing.hub._access import header_text

_COMMIT = re.compile(r"POST /api/models/([^/]+/[^/]+)/commit/")
_WRITES = frozenset({"POST", "PUT", "DELETE"})
_FAILURES: tuple[int | None, ...] = (503, 500, 429, None)  # None is a connection that is cut


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived: the path is still percent-encoded and has no query."""

    method: str
    path: str
    authorized: bool
    query: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(slots=True)
class Fault:
    """Trouble for the next requests whose "METHOD /path" the pattern is found in."""

    pattern: re.Pattern[str]
    times: int
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "injected failure"
    delay: float = 0.0
    lost: bool = False
    cut: bool = False

    @property
    def kind(self) -> str:
        """What it is counted as."""
        if self.cut:
            return "cut after the work" if self.lost else "cut"
        if self.lost:
            return "lost"
        return "slow" if self.status is None else str(self.status)

    def answer(self) -> Response | None:
        """What is answered in place of the work; None if the work is done."""
        if self.status is None or self.lost:
            return None
        headers = {"X-Error-Message": header_text(self.message), **self.headers}
        return JSONResponse({"error": self.message}, self.status, headers=headers)


@dataclass(frozen=True, slots=True)
class Rates:
    """Trouble by chance: what share of the requests fails, of the writes loses its answer, and of all is slow."""

    pattern: re.Pattern[str]
    fail: float
    lose: float
    slow: float
    delay: float
    retry_after: int
    dice: random.Random

    def roll(self, request: Request) -> Fault | None:
        """What happens to a request; the dice fall alike for the same sequence of requests."""
        drawn, choice = self.dice.random(), self.dice.random()
        if self.pattern.search(str(request)) is None:
            return None
        if drawn < self.fail:
            status = _FAILURES[int(choice * len(_FAILURES))]
            headers = {"Retry-After": str(self.retry_after)} if status == 429 else {}
            return Fault(self.pattern, 1, status, headers, cut=status is None)
        drawn -= self.fail
        if drawn < self.lose:
            written = request.method in _WRITES
            return Fault(self.pattern, 1, lost=True, cut=choice < 0.5) if written else None
        drawn -= self.lose
        return Fault(self.pattern, 1, delay=self.delay) if drawn < self.slow else None


class Faults:
    """Faults in the order they were asked for, each used up by the requests it hits, and then those by chance."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []
        self.rates: Rates | None = None
        self.met: Counter[str] = Counter()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._waiting.append(fault)

    def take(self, request: Request) -> Fault | None:
        """The fault that this request meets."""
        with self._lock:
            found = self._asked_for(request)
            if found is None and self.rates is not None:
                found = self.rates.roll(request)
            if found is not None:
                self.met[found.kind] += 1
            return found

    def _asked_for(self, request: Request) -> Fault | None:
        for fault in self._waiting:
            if fault.pattern.search(str(request)):
                fault.times -= 1
                if fault.times <= 0:
                    self._waiting.remove(fault)
                return fault
        return None


class Quota:
    """So many commits to a repository in so many seconds."""

    def __init__(self, commits: int | None, seconds: float) -> None:
        self._commits = commits
        self._seconds = seconds
        self._made: defaultdict[str, deque[float]] = defaultdict(deque)
        self._lock = threading.Lock()

    def refusal(self, request: Request) -> Response | None:
        """What a commit above the quota is answered; one below it counts from now on."""
        found = _COMMIT.match(str(request))
        if self._commits is None or found is None:
            return None
        with self._lock:
            made, now = self._made[found[1].lower()], time.monotonic()
            while made and made[0] <= now - self._seconds:
                made.popleft()
            if len(made) < self._commits:
                made.append(now)
                return None
            wait = max(1, round(made[0] + self._seconds - now))
        said = "You have exceeded our hourly quotas for action: commit. We invite you to retry later."
        headers = {"X-Error-Message": said, "Retry-After": str(wait)}
        return JSONResponse({"error": said}, 429, headers=headers)


def lost_answer() -> Response:
    """What a gateway says when the answer of the server behind it did not reach it."""
    return JSONResponse({"error": "Bad Gateway"}, 502)
