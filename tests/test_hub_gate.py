"""Waiting for the Hub: what one is told, all do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import _hub_patience, hub
from registry.errors import HubUnavailable
from registry.testing.hub import HubServer
from tests import hubs


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hubs.running(tmp_path, monkeypatch) as running:
        yield running


@pytest.fixture
def slept(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> list[float]:  # noqa: ARG001  (which sets its own)
    """What was slept, on a clock that moves by that alone."""
    waits: list[float] = []
    monkeypatch.setattr(_hub_patience, "rest", waits.append)
    monkeypatch.setattr(_hub_patience, "now", lambda: sum(waits))
    monkeypatch.setattr(_hub_patience.gate, "_opens", 0.0)
    return waits


def test_a_call_that_begins_while_another_waits_waits_too(server: HubServer, slept: list[float]) -> None:
    for name in ("a", "b"):
        hub.create(f"team/{name}", private=True)
    began: list[float] = []
    server.fail("/team/a/", status=429, headers={"Retry-After": "400"})  # more than is waited for one answer
    with pytest.raises(HubUnavailable):
        hub.head("team/a", hub.MAIN)
    assert slept == []  # what is not waited for holds nobody up
    server.fail("/team/a/", status=429, headers={"Retry-After": "7"})

    class Waiting(list[float]):
        """While the first one sleeps, somebody else asks about another repo."""

        def append(self, seconds: float) -> None:
            if not began:
                began.append(seconds)
                hub.head("team/b", hub.MAIN)
            super().append(seconds)

    waiting = Waiting()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("sleep", "rest"):
            patch.setattr(_hub_patience, name, waiting.append)
        patch.setattr(_hub_patience, "now", lambda: sum(waiting))
        hub.head("team/a", hub.MAIN)
    assert waiting[0] == 8  # the other one; the Hub counts whole seconds
    assert 8 <= waiting[1] <= 10
    assert len(waiting) == 2


def test_nobody_waits_for_ever_at_the_gate(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hub_patience.gate, "_opens", 10_000.0)
    _hub_patience.gate.enter()
    assert slept == [_hub_patience.LONGEST_WAIT]
