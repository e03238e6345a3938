"""Commands run in-process, against a registry that records what it was asked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import pytest
from click.testing import CliRunner, Result

from cli import root
from registry import Registry

if TYPE_CHECKING:
    from types import TracebackType

Run = Callable[..., Result]


class FakeRegistry:
    """Answers each verb with what a test prepared, and refuses calls that the real signature would refuse."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        signature = inspect.signature(getattr(Registry, verb))

        def call(*args: Any, **options: Any) -> Any:
            bound = signature.bind(self, *args, **options).arguments
            self.calls.append((verb, {name: value for name, value in bound.items() if name != "self"}))
            answer = self.answers[verb]
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    @property
    def asked(self) -> dict[str, Any]:
        """The arguments of the last call."""
        return self.calls[-1][1]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    registry = FakeRegistry()
    monkeypatch.setattr(Registry, "open", lambda: registry)
    return registry


@pytest.fixture
def run() -> Run:
    """Run ``registry`` with these words; stdout and stderr apart."""

    def invoke(*words: str, env: dict[str, str] | None = None) -> Result:
        return CliRunner(env=env or {}).invoke(root, words)

    return invoke
