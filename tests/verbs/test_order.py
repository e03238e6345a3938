"""Transactions take the tables in one order, the events last: an import, which takes all of them, is never in a circle."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event

from registry import Registry
from registry.catalog import publications, references
from registry.catalog.bundle_import import _ORDER
from registry.reference import parse
from tests.adapters import make_lora
from tests.catalog.drafts import statements
from tests.models import tiny_llama


def add_base(catalog: Registry, folder: Path) -> None:
    catalog.add_base_model("some/base", base_path=tiny_llama(folder / "some"))


def replace_base(catalog: Registry, folder: Path) -> None:
    add_base(catalog, folder)
    catalog.add_base_model("some/base", base_path=tiny_llama(folder / "other", tied=True), replace=True)


def name_base(catalog: Registry, _folder: Path) -> None:
    catalog.set_base_alias("short", "tiny/base")
    catalog.delete_base_alias("short")


def merge(catalog: Registry, folder: Path) -> None:
    catalog.materialize("a", into="model", base_path=tiny_llama(folder / "base"), device="cpu")


def finish(catalog: Registry, _folder: Path) -> None:
    with catalog._database.write() as session:
        pin = references.resolve(session, parse("a"))
        publications.begin(
            session, pin, publish_id="p", repo="o/r", revision="main", target="adapter", files={}, actor="me"
        )
        session.flush()
        publications.finish(session, "p", commit="c", url="u", ref=pin.ref, actor="me")


@pytest.mark.parametrize("change", [add_base, replace_base, name_base, merge, finish])
def test_tables_are_written_in_the_order_of_an_import(
    local: Registry, tmp_path: Path, change: Callable[[Registry, Path], None]
) -> None:
    modules = {"model.layers.0.self_attn.q_proj": (32, 32)}
    local.add(make_lora(tmp_path / "a", modules=modules), "a")
    places = {row.__tablename__: place for place, row in enumerate(_ORDER)}
    with statements(local._database) as seen:

        def end(_connection: Connection) -> None:
            seen.append(("COMMIT", None))

        event.listen(Engine, "commit", end)
        try:
            change(local, tmp_path)
        finally:
            event.remove(Engine, "commit", end)
    written = [_table(text) for text, _ in seen if not text.startswith(("SELECT", "WITH"))]
    assert "events" in written
    for before, after in pairwise(written):
        assert "" in {before, after} or places[before] <= places[after], (before, after)


def _table(text: str) -> str:
    """What a statement writes to; nothing for the end of a transaction."""
    return "" if text == "COMMIT" else text.split()[1 if text.startswith("UPDATE") else 2]
