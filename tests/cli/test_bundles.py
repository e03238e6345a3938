"""``registry export`` and ``registry import``, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry import Registry
from registry.results import Exported, Imported
from tests.adapters import make_lora
from tests.cli.conftest import FakeRegistry, Run

EXPORTED = Exported(
    path="c.tar", size=2048, digest="sha256:ab", blobs=True, counts={"adapters": 2, "events": 0}
)
IMPORTED = Imported(
    path="c.tar", digest="sha256:ab", complete=False, changed=True, added={"versions": 3}, extended=1, stored=4,
    missing=2, kept=("b@prod",),
)  # fmt: skip


def test_export_says_what_is_in_it(fake: FakeRegistry, run: Run) -> None:
    fake.answers["export"] = EXPORTED
    done = run("export", "c.tar", "--no-blobs")
    assert done.exit_code == 0
    assert (fake.asked["file"], fake.asked["blobs"]) == ("c.tar", False)
    assert "exported c.tar, 2.0 kB" in done.stdout
    assert run("export", "c.tar", "--format", "quiet").stdout == "sha256:ab\n"
    assert fake.asked["blobs"] is True
    assert json.loads(run("export", "c.tar", "--format", "json").stdout)["counts"]["adapters"] == 2


def test_import_says_what_it_brought_and_what_it_left(fake: FakeRegistry, run: Run) -> None:
    fake.answers["import_bundle"] = IMPORTED
    done = run("import", "c.tar")
    assert "imported c.tar, extending 1 adapter" in done.stdout
    assert "2 blobs" in done.stderr
    assert "b@prod" in done.stderr
    assert json.loads(run("import", "c.tar", "--format", "json").stdout)["added"] == {"versions": 3}


def test_import_of_what_is_known_says_so(fake: FakeRegistry, run: Run) -> None:
    known = IMPORTED.model_copy(update={"changed": False, "stored": 0, "missing": 0, "kept": ()})
    fake.answers["import_bundle"] = known
    done = run("import", "c.tar")
    assert "holds nothing new" in done.stdout
    assert done.stderr == ""


@pytest.mark.usefixtures("sqlite_url")
def test_both_for_real(run: Run, tmp_path: Path) -> None:
    with Registry.open() as catalog:
        catalog.add(make_lora(tmp_path / "a"), "a")
    bundle = str(tmp_path / "c.tar")
    assert run("export", bundle).exit_code == 0
    assert run("export", bundle).exit_code == 4
    done = run("import", bundle, env={"REGISTRY_HOME": str(tmp_path / "elsewhere")})
    assert done.exit_code == 0, done.stderr
    assert "the whole catalog" in done.stdout
    assert run("import", bundle, env={"REGISTRY_HOME": str(tmp_path / "elsewhere")}).exit_code == 0
    absent = run("import", str(tmp_path / "absent.tar"))
    assert (absent.exit_code, absent.stdout) == (3, "")
    assert "there is no file" in absent.stderr
    (tmp_path / "bad.tar").write_text("no")
    assert run("import", str(tmp_path / "bad.tar")).exit_code == 7


@pytest.mark.usefixtures("sqlite_url")
def test_bytes_that_follow_are_told_of(run: Run, tmp_path: Path) -> None:
    with Registry.open() as catalog:
        catalog.add(make_lora(tmp_path / "a"), "a")
    bare, whole = str(tmp_path / "bare.tar"), str(tmp_path / "whole.tar")
    assert run("export", bare, "--no-blobs").exit_code == 0
    assert run("export", whole).exit_code == 0
    elsewhere = {"REGISTRY_HOME": str(tmp_path / "elsewhere")}
    assert "the bytes of 2 blobs are not in the blob store" in run("import", bare, env=elsewhere).stderr
    assert (
        run("import", whole, env=elsewhere).stdout == f"{whole} holds nothing new but bytes: 2 blobs stored\n"
    )
    assert "nothing was changed" in run("import", whole, env=elsewhere).stdout
