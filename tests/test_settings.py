"""Where a registry lives: arguments before the environment before the defaults."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from registry import settings
from registry.errors import UsageError


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REGISTRY_HOME", "REGISTRY_DATABASE_URL", "REGISTRY_BLOBS", "REGISTRY_ACTOR"):
        monkeypatch.delenv(name, raising=False)


def test_everything_lives_in_the_home_by_default(tmp_path: Path) -> None:
    loaded = settings.load(tmp_path / "home")
    assert loaded.home == tmp_path / "home"
    assert loaded.database_url == f"sqlite:///{tmp_path}/home/registry.db"
    assert loaded.blobs == str(tmp_path / "home" / "blobs")


def test_the_environment_decides_where_arguments_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_HOME", str(tmp_path / "env"))
    monkeypatch.setenv("REGISTRY_DATABASE_URL", "postgresql://host/env")
    monkeypatch.setenv("REGISTRY_BLOBS", "/blobs/env")
    monkeypatch.setenv("REGISTRY_ACTOR", "env")
    assert settings.load() == settings.Settings(
        tmp_path / "env", "postgresql://host/env", "/blobs/env", "env"
    )
    given = settings.load(tmp_path, database_url="sqlite:///x.db", blobs="/b", actor="me")
    assert given == settings.Settings(tmp_path, "sqlite:///x.db", "/b", "me")


def test_an_empty_variable_is_one_that_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REGISTRY_DATABASE_URL", "REGISTRY_BLOBS", "REGISTRY_ACTOR"):
        monkeypatch.setenv(name, "")
    loaded = settings.load(tmp_path)
    assert loaded.database_url.startswith("sqlite:///")
    assert loaded.blobs == str(tmp_path / "blobs")
    assert loaded.actor


def test_without_a_home_the_platforms_user_data_folder_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings.load().home.is_relative_to(tmp_path)
    assert settings.load().home.name == "adapter-registry"


def test_a_relative_home_does_not_move_with_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings.load("here").home == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings.load("~/there").home == tmp_path / "there"


def test_a_user_without_a_name_is_told_how_to_give_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nobody)
    monkeypatch.delenv("REGISTRY_ACTOR", raising=False)
    nameless = settings.load(tmp_path)
    with pytest.raises(UsageError) as caught:
        _ = nameless.actor
    assert "REGISTRY_ACTOR" in str(caught.value.hint)
    assert settings.load(tmp_path, actor="ci").actor == "ci"


@pytest.mark.parametrize(
    ("given", "size"),
    [("0", 0), ("1234", 1234), ("500MB", 500 * 10**6), ("20 gb", 20 * 10**9), ("2GiB", 2 << 30), ("7B", 7)],
)
def test_the_room_for_copies_is_a_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, size: int
) -> None:
    monkeypatch.setenv("REGISTRY_CACHE_SIZE", given)
    room = settings.load(tmp_path).room
    assert (room.folder, room.size) == (tmp_path / "cache", size)


@pytest.mark.parametrize("given", ["-1", "1.5GB", "much", "5PB", "GB", "1" * 16])
def test_a_room_that_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("REGISTRY_CACHE_SIZE", given)
    with pytest.raises(UsageError, match="REGISTRY_CACHE_SIZE"):
        settings.load()
