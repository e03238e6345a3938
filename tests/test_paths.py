"""Paths as users give them, and files that are none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from registry import settings
from registry._paths import NotRegular, expanded, open_regular
from registry.errors import UsageError
from registry.publishers import _template


def test_the_home_of_nobody_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="home folder of nobody"):
        expanded("~nobody-of-this-name/x")
    with pytest.raises(UsageError, match="home folder of nobody"):
        settings.load("~nobody-of-this-name/x")
    monkeypatch.setenv("HOME", "/there")
    assert expanded("~/x") == Path("/there/x")
    assert expanded("/a/~x") == Path("/a/~x")


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [os.mkfifo, _folder, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_waited_for(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "x")
    with pytest.raises(NotRegular):
        open_regular(tmp_path / "x")
    with pytest.raises(UsageError, match="it is no regular file"):
        _template.read(tmp_path / "x")


def test_a_file_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"text")
    (tmp_path / "link").symlink_to("x")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"text"
