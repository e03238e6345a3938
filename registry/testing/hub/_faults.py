"""What a test may ask of the server: a record of the requests, and trouble on demand."""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.responses import JSONResponse, Response

from registry.testing.hub._access import header_text


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

    def answer(self) -> Response | None:
        """What is answered in place of the work; None if the work is done."""
        if self.status is None or self.lost:
            return None
        headers = {"X-Error-Message": header_text(self.message), **self.headers}
        return JSONResponse({"error": self.message}, self.status, headers=headers)


class Faults:
    """Faults in the order they were asked for; each is used up by the requests it hits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._waiting.append(fault)

    def take(self, request: Request) -> Fault | None:
        """The fault that this request meets."""
        with self._lock:
            for fault in self._waiting:
                if fault.pattern.search(str(request)):
                    fault.times -= 1
                    if fault.times <= 0:
                        self._waiting.remove(fault)
                    return fault
        return None


def lost_answer() -> Response:
    """What a gateway says when the answer of the server behind it did not reach it."""
    return JSONResponse({"error": "Bad Gateway"}, 502)
