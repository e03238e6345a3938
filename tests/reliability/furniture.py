"""The catalog that everything begins with."""

from __future__ import annotations

import shutil
from pathlib import Path

from registry import Registry
from tests.adapters import make_lora
from tests.models import tiny_llama

Q = "model.layers.0.self_attn.q_proj"
SMALL = {Q: (32, 32)}


def furnish(folder: Path, url: str) -> None:
    """A small catalog, with what the scenarios need beside it."""
    tiny_llama(folder / "base")
    for seed, name in enumerate(("a", "b", "spare", "new")):
        make_lora(folder / name, modules=SMALL, seed=seed)
    with Registry.open(folder / "elsewhere") as other:
        other.add(make_lora(folder / "theirs", modules=SMALL, seed=9), "theirs")
        other.compose("far", "0.5*theirs", device="cpu")
        other.export(folder / "other.tar")
    shutil.rmtree(folder / "elsewhere")
    with Registry.open(folder / "home", database_url=url) as catalog:
        for name in ("a", "b", "spare"):
            catalog.add(folder / name, name)
        catalog.compose("mix", "0.5*a + 0.5*b", device="cpu")
        catalog.set_alias("mix", "live", 1)
        stray = make_lora(folder / "stray", modules=SMALL, seed=8)
        catalog.add(stray, "gone")
        catalog.delete("gone")
    (folder / "work").mkdir()
