"""The catalog that everything begins with, and what is on the Hub by then."""

from __future__ import annotations

import shutil
from pathlib import Path

from sqlalchemy import text

from registry import Registry
from tests.adapters import make_lora
from tests.models import tiny_llama
from tests.verbs.places import blob, damage

Q = "model.layers.0.self_attn.q_proj"
SMALL = {Q: (32, 32)}


def furnish(folder: Path, url: str) -> None:
    """A small catalog, with what the scenarios need beside it. The environment leads to an empty Hub."""
    tiny_llama(folder / "base")
    for seed, name in enumerate(("a", "b", "spare", "new")):
        make_lora(folder / name, modules=SMALL, seed=seed)
    for seed in range(3):
        make_lora(folder / "many" / f"m{seed}", modules=SMALL, seed=30 + seed)
    _elsewhere(folder)
    with Registry.open(folder / "home", database_url=url) as catalog:
        for name in ("a", "b", "spare"):
            catalog.add(folder / name, name, license="mit")
        catalog.compose("mix", "0.5*a + 0.5*b", device="cpu")
        catalog.set_alias("mix", "live", 1)
        catalog.set_alias("a", "old", 1)
        catalog.set_tags("a", {"stage": "new", "k": "v"})
        catalog.set_base_license("tiny/base", "apache-2.0")
        stray = make_lora(folder / "stray", modules=SMALL, seed=8)
        catalog.add(stray, "gone")
        catalog.delete("gone")
        catalog.add(make_lora(folder / "bad", modules=SMALL, seed=7), "bad")
        catalog.revoke("bad", "leaked")
        catalog.publish("mix", "team/out")
        catalog.publish("a", "team/whole")
        catalog.add_rule("mix", "team/{name}-live", alias="live")
        catalog.add("hf://team/down", "down")
    (folder / "work").mkdir()


def _elsewhere(folder: Path) -> None:
    """What another catalog exported and published, and the backup of it."""
    home, url = folder / "elsewhere", f"sqlite:///{folder}/elsewhere/registry.db"
    with Registry.open(home, database_url=url) as other:
        other.add(make_lora(folder / "theirs", modules=SMALL, seed=9), "theirs")
        other.compose("far", "0.5*theirs", device="cpu")
        other.export(folder / "other.tar")
        for seed, (name, made) in enumerate((("up", "down"), ("left", "right")), 20):
            other.add(make_lora(folder / name, modules=SMALL, seed=seed), name, license="mit")
            other.compose(made, f"0.5*{name}", device="cpu")
            for each in (name, made):
                other.publish(each, f"team/{each}")
    Registry.backup(folder / "other.backup", home, database_url=url)
    shutil.rmtree(home)


def spoil(folder: Path, url: str) -> None:
    """Damage bytes of a version, lose those of another, and some of what rows determine; ``good`` has the bytes."""
    shutil.copytree(folder / "home" / "blobs", folder / "good")
    with Registry.open(folder / "home", database_url=url) as catalog:
        damage(blob(catalog, "a"))
        blob(catalog, "b").unlink()
        with catalog._database.write() as session:
            session.execute(text("DELETE FROM words"))
            session.execute(text("UPDATE adapters SET last_version = 7 WHERE name = 'b'"))
            session.execute(text("UPDATE versions SET latest_of = NULL"))
