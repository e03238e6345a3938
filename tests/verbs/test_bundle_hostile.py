"""Bundles that anybody may have written: what no database could index is refused before it meets one."""

from __future__ import annotations

import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from registry import Registry
from registry.errors import Refused, StorageFailure
from tests.reliability.fuzz.bundles import exported, read, write

INDEXED = {
    ("base_models", "repo"): 300, ("base_models", "revision"): 300, ("base_models", "license"): 200, ("adapters", "created_by"): 200,
    ("artifacts", "kind"): 200, ("realisations", "variant"): 620, ("versions", "task"): 200, ("versions", "license"): 200,
    ("versions", "created_by"): 200, ("revocations", "revoked_by"): 200, ("evaluations", "metric"): 200, ("evaluations", "dataset"): 200,
    ("evaluations", "split"): 200, ("rules", "selector"): 400, ("rules", "repo"): 200, ("rules", "revision"): 200, ("events", "actor"): 200,
    ("events", "action"): 200, ("events", "subject"): 620,
}  # fmt: skip


def words(length: int, seed: str) -> str:
    """Text of four bytes to a character that no database makes shorter."""
    chance = random.Random(seed)  # noqa: S311
    return "".join(chr(chance.randrange(0x20000, 0x2A000)) for _ in range(length))


@pytest.fixture
def tables(tmp_path: Path) -> tuple[dict[str, list[Any]], dict[str, bytes]]:
    return read(exported(tmp_path))


def test_what_is_too_long_for_an_index_is_refused_on_every_database(
    catalog: Registry, tables: tuple[dict[str, list[Any]], dict[str, bytes]], tmp_path: Path
) -> None:
    lines, blobs = tables
    for (table, field), most in INDEXED.items():
        changed = deepcopy(lines)
        changed[table][-1][field] = words(most + 1, field)
        write(changed, blobs, tmp_path / "case.tar")
        with pytest.raises(Refused, match=rf"{table} line \d+.*{field}.*at most {most} characters"):
            catalog.import_bundle(tmp_path / "case.tar")
    for tags in ({words(201, "key"): "x"}, {"x": words(401, "value")}):
        changed = deepcopy(lines)
        changed["versions"][-1]["tags"] = tags
        write(changed, blobs, tmp_path / "case.tar")
        with pytest.raises(Refused, match=r"versions line \d+.*tags"):
            catalog.import_bundle(tmp_path / "case.tar")
    assert catalog.list().versions == ()


def test_what_is_just_short_enough_is_taken_by_every_database(
    catalog: Registry, tables: tuple[dict[str, list[Any]], dict[str, bytes]], tmp_path: Path
) -> None:
    lines, blobs = tables
    for (table, field), most in INDEXED.items():
        if table != "rules":  # whose texts are plain, and share one index
            lines[table][-1][field] = words(most, field)
    lines["versions"][-1]["tags"] = {words(200, "key"): words(400, "value")}
    write(lines, blobs, tmp_path / "case.tar")
    assert catalog.import_bundle(tmp_path / "case.tar").changed
    assert catalog.log("mix")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no file here that fails to be read")
def test_a_file_that_cannot_be_read_on_is_told(catalog: Registry) -> None:
    with pytest.raises(StorageFailure, match="cannot read /proc/self/mem"):
        catalog.import_bundle("/proc/self/mem")
