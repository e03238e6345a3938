"""What is made in the home is for its owner alone, whatever the umask; what was asked for elsewhere is as usual."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import Registry
from registry.blobs import local
from tests.adapters import make_lora
from tests.buckets import Bucket
from tests.cli.conftest import Run
from tests.models import tiny_llama

Q = "model.layers.0.self_attn.q_proj"
WORK = (
    "add {tmp}/a a --base tiny/base",
    "add --recursive {tmp}/many --base tiny/base",
    "compose b '0.5*a'",
    "alias set b prod 1",
    "note b hello",
    "base add tiny/base --base-path {tmp}/base",
    "materialize b --as model --base-path {tmp}/base --device cpu",
    "materialize b --as model --base-path {tmp}/base --device cpu --out {tmp}/model --dtype bfloat16",
    "checkout b {tmp}/out",
    "sync-dir {tmp}/served --alias prod",
    "export {tmp}/bundle",
    "delete a",
    "gc --apply",
    "verify",
)


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=["open", "usual", "private"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    mask: int = request.param
    before = os.umask(mask)
    yield mask
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    found = [folder, *folder.rglob("*")]
    return {str(path): stat.S_IMODE(path.lstat().st_mode) for path in found if not path.is_symlink()}


def work(run: Run, tmp_path: Path, *, among: tuple[str, ...] = WORK) -> None:
    make_lora(tmp_path / "a", modules={Q: (32, 32)})
    make_lora(tmp_path / "many" / "one", modules={Q: (32, 32)}, seed=1)
    tiny_llama(tmp_path / "base")
    for words in among:
        done = run(*shlex.split(words.format(tmp=tmp_path)))
        assert done.exit_code == 0, (words, done.output)


def test_the_home_is_private_and_what_was_asked_for_is_not_more_than_usual(
    umask: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_LARGE", 1)  # so that it is noted what stored files look like
    work(run, tmp_path)
    with Registry.open() as catalog:  # beside which SQLite keeps its journal
        catalog.add(make_lora(tmp_path / "c", modules={Q: (32, 32)}, seed=2), "c", base="tiny/base")
        here = modes(tmp_path / "home")
    kept = {Path(name).name for name in here}
    assert {"registry.db", "registry.db-wal", "registry.db-shm", "blobs", "seen"} <= kept
    assert {name: oct(mode) for name, mode in here.items() if mode & 0o077} == {}
    for name in ("out", "model", "bundle"):
        for path, mode in modes(tmp_path / name).items():
            usual = 0o777 if Path(path).is_dir() else 0o666
            assert not mode & ~(usual & ~umask), (path, oct(mode))
            assert mode & 0o444 >= 0o444 & ~umask, (path, oct(mode))


def test_copies_of_a_bucket_are_private(
    bucket: Bucket, run: Run, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_DATABASE_URL", postgres_url)
    monkeypatch.setenv("REGISTRY_BLOBS", bucket.url)
    before = os.umask(0)
    try:
        work(run, tmp_path, among=(*WORK[:6], "checkout b {tmp}/out"))
    finally:
        os.umask(before)
    here = modes(tmp_path / "home")
    assert "cache" in {Path(name).name for name in here}
    assert {name: oct(mode) for name, mode in here.items() if mode & 0o077} == {}


def test_a_home_that_others_may_write_to_is_told_in_one_line(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert run("list").stderr == "no adapters found\n"
    home.chmod(0o770)
    for words in (("list",), ("list", "--format", "quiet")):
        warning, *_ = run(*words).stderr.splitlines()
        assert (
            warning
            == f"warning: {home} may be written to by others, who could change what is kept there: chmod 700 it"
        )
    assert run("list", "--format", "json").stderr == ""
    home.chmod(0o750)
    assert run("list").stderr == "no adapters found\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away")
def test_a_home_of_somebody_else_is_told(run: Run, tmp_path: Path) -> None:
    run("list")
    os.chown(tmp_path / "home", 12345, -1)
    warning, *_ = run("list").stderr.splitlines()
    assert (
        warning
        == f"warning: {tmp_path / 'home'} belongs to somebody else, who could change what is kept there"
    )


def test_blobs_without_a_database_are_told_before_an_empty_one_takes_its_place(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_HOME", str(tmp_path / "home"))
    make_lora(tmp_path / "a", modules={Q: (32, 32)})
    assert "no database" not in run("add", str(tmp_path / "a"), "a", "--base", "tiny/base").stderr
    assert "no database" not in run("list").stderr
    file = tmp_path / "home" / "registry.db"
    for empty in (False, True):
        file.unlink()
        if empty:
            file.touch()
        done = run("list")
        assert done.exit_code == 0
        assert "has blobs and no database" in done.stderr
        assert "registry restore" in done.stderr
        assert "no database" not in run("list").stderr


@pytest.mark.parametrize("name", ["what? why?a=b", "100%25 %20", "a#b&c;d", "ü ñ"])
def test_a_home_may_be_called_anything_and_holds_everything(
    name: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    around = tmp_path / "around"
    around.mkdir()
    monkeypatch.setenv("REGISTRY_HOME", str(around / name))
    make_lora(tmp_path / "a", modules={Q: (32, 32)})
    assert run("add", str(tmp_path / "a"), "a", "--base", "tiny/base").exit_code == 0
    assert run("backup", str(tmp_path / "all.backup")).exit_code == 0
    for command in ("verify", "db check", "db upgrade", "gc --apply", "list"):
        assert run(*command.split()).exit_code == 0, command
    assert [each.name for each in around.iterdir()] == [name]
    assert (around / name / "registry.db").stat().st_size
