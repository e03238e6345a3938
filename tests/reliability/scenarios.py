"""What is done while something happens: each changes the catalog, the disk or the Hub, and can be done again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from registry import Registry
from registry.errors import Conflict, HubFailure
from registry.verbs.gc import gc

Start = str
"""Where one begins: in a ``furnished`` catalog, in a ``damaged`` one, in one of an earlier schema, or with ``nothing``."""


@dataclass(frozen=True)
class Scenario:
    """``run`` is given a folder and the address of a database; ``again``: doing it twice is doing it once."""

    run: Callable[[Path, str], object]
    start: Start = "furnished"
    again: bool = True


def _on(change: Callable[[Registry, Path], object]) -> Callable[[Path, str], object]:
    def run(folder: Path, url: str) -> object:
        with Registry.open(folder / "home", database_url=url) as catalog:
            return change(catalog, folder)

    return run


def add(catalog: Registry, folder: Path) -> object:
    return catalog.add(folder / "new", "added", tags={"k": "v"}, note="a note")


def add_next(catalog: Registry, folder: Path) -> object:
    return catalog.add(folder / "new", "a", parents=["b"])


def add_many(catalog: Registry, folder: Path) -> object:
    return catalog.add_all(folder / "many", tags={"k": "v"})


def add_hub(catalog: Registry, _: Path) -> object:
    """A composition, whose input comes along as known."""
    return catalog.add("hf://team/right", "right")


def fetch(catalog: Registry, _: Path) -> object:
    return catalog.fetch(["up"])


def compose(catalog: Registry, _: Path) -> object:
    return catalog.compose("made", "a - 0.4*b", device="cpu")


def rebuild(catalog: Registry, folder: Path) -> object:
    catalog.add(folder / "new", "a")
    return catalog.rebuild(device="cpu")


def materialize(catalog: Registry, folder: Path) -> object:
    return catalog.materialize("mix", into="model", base_path=folder / "base", device="cpu")


def materialize_out(catalog: Registry, folder: Path) -> object:
    if (folder / "work" / "model").exists():
        return None
    return catalog.materialize(
        "mix", into="model", base_path=folder / "base", out=folder / "work" / "model", device="cpu"
    )


def checkout(catalog: Registry, folder: Path) -> object:
    if (folder / "work" / "out").exists():
        return None
    return catalog.checkout("mix", folder / "work" / "out")


def similar(catalog: Registry, _: Path) -> object:
    return catalog.similar("a", versions=True)


def alias(catalog: Registry, _: Path) -> object:
    return catalog.set_alias("a", "prod", 1)


def alias_delete(catalog: Registry, _: Path) -> object:
    if any(each.alias == "old" for each in catalog.aliases("a")):
        return catalog.delete_alias("a", "old")
    return None


def tag(catalog: Registry, _: Path) -> object:
    return catalog.set_tags("a", {"stage": "done"})


def untag(catalog: Registry, _: Path) -> object:
    return catalog.delete_tags("a", ["k"]) if "k" in catalog.show("a").tags else None


def note(catalog: Registry, _: Path) -> object:
    return catalog.set_note("a", "worth a look")


def evaluate(catalog: Registry, _: Path) -> object:
    return catalog.add_evaluation("a", "accuracy", 0.5, dataset="d")


def sweep(catalog: Registry, _: Path) -> object:
    """By a function of that name, so that what was measured before is known."""
    return catalog.sweep(
        "swept", "a - {w}*b", over={"w": "0,0.5,1"}, evaluate=lambda _, values: {"loss": float(values["w"])},
        evaluator="scenario", metric="loss", minimize=True, device="cpu",
    )  # fmt: skip


def eval_run(catalog: Registry, _: Path) -> object:
    return catalog.run_evaluation("a", evaluate=lambda _, __: {"accuracy": 0.5})


def revoke(catalog: Registry, _: Path) -> object:
    return catalog.revoke("b", "poisoned")


def unrevoke(catalog: Registry, _: Path) -> object:
    return catalog.unrevoke("bad") if catalog.show("bad").revoked else None


def delete(catalog: Registry, _: Path) -> object:
    if any(version.name == "spare" for version in catalog.list(limit=100).versions):
        return catalog.delete("spare")
    return None


def base_add(catalog: Registry, folder: Path) -> object:
    return catalog.add_base_model("tiny/base", base_path=folder / "base")


def base_alias(catalog: Registry, _: Path) -> object:
    return catalog.set_base_alias("tiny", "tiny/base")


def rule(catalog: Registry, _: Path) -> object:
    return catalog.add_rule("a", "team/{name}-ruled")


def rule_delete(catalog: Registry, _: Path) -> object:
    return [catalog.delete_rule(each.id) for each in catalog.rules()]


def export(catalog: Registry, folder: Path) -> object:
    if (folder / "work" / "bundle.tar").exists():
        return None
    return catalog.export(folder / "work" / "bundle.tar")


def import_bundle(catalog: Registry, folder: Path) -> object:
    return catalog.import_bundle(folder / "other.tar")


def collect(catalog: Registry, _: Path) -> object:
    return gc(catalog._database, catalog._blobs, apply=True, actor="tester", grace=timedelta(0))


def sync_dir(catalog: Registry, folder: Path) -> object:
    return catalog.sync_dir(folder / "work" / "served", alias="live")


def publish(catalog: Registry, _: Path) -> object:
    return catalog.publish("mix", "team/published")


def publish_again(catalog: Registry, _: Path) -> object:
    """Another version to a repo of ours, under a tag."""
    return catalog.publish("b", "team/out", tag="v2")


def publish_model(catalog: Registry, folder: Path) -> object:
    return catalog.publish("mix", "team/merged", into="model", base_path=folder / "base")


def propose(catalog: Registry, _: Path) -> object:
    return catalog.publish("b", "team/out", propose=True)


def sync(catalog: Registry, _: Path) -> object:
    report = catalog.sync(jobs=1, retries=0, backoff=0)
    for each in report.results:
        if each.outcome == "failed":  # which the command says with its exit code
            raise (HubFailure if each.code else RuntimeError)(each.reason or "")
    return report


def unpublish(catalog: Registry, _: Path) -> object:
    return catalog.unpublish("team/out", reason="leaked")


def unpublish_delete(catalog: Registry, _: Path) -> object:
    return catalog.unpublish("team/whole", delete=True)


def repair(catalog: Registry, folder: Path) -> object:
    found = catalog.verify(repair=True, sources=[folder / "good"])
    return found, catalog.verify_database(repair=True, sources=[folder / "good"])


def upgrade(folder: Path, url: str) -> object:
    return Registry.upgrade(folder / "home", database_url=url)


def backup(folder: Path, url: str) -> object:
    if (folder / "work" / "backup").exists():
        return None
    return Registry.backup(folder / "work" / "backup", folder / "home", database_url=url)


def restore(folder: Path, url: str) -> object:
    """Into nothing; where it is whole already, that is told."""
    try:
        return Registry.restore(folder / "other.backup", folder / "home", database_url=url)
    except Conflict:
        return Registry.check_backup(folder / "other.backup")


def first(_: Registry, __: Path) -> object:
    """Opening is all: there is no catalog before."""


def _scenarios() -> Mapping[str, Scenario]:
    simple = (
        add, add_next, add_many, add_hub, fetch, compose, rebuild, materialize, materialize_out, checkout,
        similar, alias, alias_delete, tag, untag, note, revoke, unrevoke, delete, base_add, base_alias, rule, rule_delete, export,
        import_bundle, sync_dir, collect, publish, publish_again, publish_model, propose, sync, unpublish,
        unpublish_delete, sweep,
    )  # fmt: skip
    found = {each.__name__.replace("_", "-"): Scenario(_on(each)) for each in simple}
    found["evaluate"] = Scenario(_on(evaluate), again=False)
    found["eval-run"] = Scenario(_on(eval_run), again=False)
    found["first"] = Scenario(_on(first), start="nothing")
    found["repair"] = Scenario(_on(repair), start="damaged")
    found["backup"] = Scenario(backup)
    found["restore"] = Scenario(restore, start="nothing")
    for revision in ("0001", "0002", "0003", "0004"):
        found[f"upgrade-from-{revision}"] = Scenario(upgrade, start=revision)
    return found


SCENARIOS: Mapping[str, Scenario] = _scenarios()
