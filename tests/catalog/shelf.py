"""A small catalog in which every key of filters means something, and filters evaluated in memory beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update

from registry import Registry
from registry.catalog import references
from registry.catalog.database import Database
from registry.catalog.events import now
from registry.catalog.tables import (
    AffectedRow,
    BaseAliasRow,
    BaseModelRow,
    RevocationRow,
    VersionRow,
)
from registry.catalog.versions import Followed
from registry.filters import Among, And, Compare, Key, Leaf, Missing, Node, Not, Or, Words
from registry.reference import parse
from registry.results import Version
from tests.catalog.drafts import add

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)


def fill(catalog: Registry) -> None:
    """Fourteen versions on four base models, with everything that can be asked about."""
    database = catalog._database
    add(
        database,
        "Alpha",
        "1",
        size=30,
        task="qa",
        tags={"team": "x", "lang": "en"},
        license="mit",
        note="Toxic words",
    )
    add(
        database,
        "Alpha",
        "2",
        size=10,
        task="QA",
        tags={"team": "y"},
        note="100% a*b [c]?",
        source="/tmp/a_b",
    )
    add(
        database,
        "Alpha",
        "3",
        size=20,
        task="nli",
        tags={"team": "x", "odd key": "it's"},
        parents=["Alpha@1"],
    )
    add(
        database,
        "team/beta",
        "4",
        kind="ia3",
        base="other/base",
        task="qa",
        tags={"lang": "EN"},
        license="apache",
    )
    add(database, "team/beta", "5", kind="ia3", base="other/base", note="toxicity, less of it")
    add(database, "team/gamma", "6", base="tiny/base", revision="main", task="summary", tags={"team": "xy"})
    add(
        database,
        "delta",
        "7",
        base="copied/base",
        parents=["Alpha@3", "Alpha@2"],
        tags={"team": "z"},
        license="mit",
    )
    add(database, "delta", "8", base="copied/base", parents=["delta@1"], note="ÄÖ straße \\ back")
    add(
        database,
        "epsilon",
        "9",
        size=20,
        task="qa",
        parents=["Alpha@3"],
        followed=[follow(database, "Alpha", "")],
    )
    add(
        database,
        "epsilon",
        "10",
        task="qa",
        parents=["Alpha@2"],
        followed=[follow(database, "Alpha@2", "prod")],
    )
    add(database, "zeta", "11", tags={"toxic": "yes"}, parents=["epsilon@1"])
    add(database, "zeta", "12", tags={"toxic": ""}, license="MIT")
    add(database, "Alpha", "13", size=5, task="qa")
    for name, alias, number in [
        ("Alpha", "prod", 1),
        ("Alpha", "Stable", 1),
        ("delta", "prod", 2),
        ("zeta", "old", 1),
    ]:
        catalog.set_alias(name, alias, number)
    for ref, metric, value, dataset, split in [
        ("Alpha@1", "acc", 0.5, "imdb", None),
        ("Alpha@1", "acc", 0.9, "imdb", "test"),
        ("Alpha@2", "acc", 0.9, "squad", None),
        ("delta@1", "top 1", 0.25, "imdb", None),
        ("zeta@1", "acc", -1.0, "imdb", "test"),
    ]:
        catalog.add_evaluation(ref, metric, value, dataset=dataset, split=split)
    catalog.delete("team/beta@1")
    with database.write() as session:
        same = update(BaseModelRow).where(BaseModelRow.repo.in_(["copied/base", "tiny/base"]))
        session.execute(same.where(BaseModelRow.revision == "").values(fingerprint="sha256:same"))
        other = session.scalars(select(BaseModelRow.id).where(BaseModelRow.repo == "other/base")).one()
        short = {"alias_key": "other", "alias": "Other", "base_model_id": other, "updated_by": "t"}
        session.execute(insert(BaseAliasRow).values(**short, updated_at=now()))
        bad = references.resolve(session, parse("Alpha@3")).id
        hit = [
            references.resolve(session, parse(ref)).id
            for ref in ("delta@1", "delta@2", "epsilon@1", "zeta@1")
        ]
        session.execute(
            insert(RevocationRow).values(version_id=bad, reason="leaks", revoked_at=START, revoked_by="eve")
        )
        session.execute(insert(AffectedRow), [{"version_id": each, "revoked_id": bad} for each in hit])
        for place, row in enumerate(session.scalars(select(VersionRow).order_by(VersionRow.id))):
            row.created_at = START + place * timedelta(hours=1, microseconds=1)


def follow(database: Database, ref: str, alias_key: str) -> Followed:
    with database.read() as session:
        pin = references.resolve(session, parse(ref))
        return Followed(pin.adapter_id, alias_key, pin.id)


STALE = {"epsilon@1", "epsilon@2"}  # Alpha's latest went on to Alpha@4, and Alpha@prod is not Alpha@2
BASES = [{"tiny/base", "copied/base"}]  # the same weights
BASE_ALIASES = {"other": "other/base"}


@dataclass
class Shelf:
    """Every version that there is, and what a filter says about each. None is SQL's unknown."""

    versions: Mapping[str, Version]

    def fits(self, version: Version, node: Node) -> bool | None:
        match node:
            case And(operands):
                return _all([self.fits(version, each) for each in operands])
            case Or(operands):
                return _not(_all([_not(self.fits(version, each)) for each in operands]))
            case Not(operand):
                return _not(self.fits(version, operand))
            case Words(text):
                return all(self.has_word(version, word) for word in re.findall(r"[^\W_]+", text.lower()))
            case leaf:
                return self.leaf(version, leaf)

    def has_word(self, version: Version, word: str) -> bool:
        texts = " ".join([version.name, version.note or "", *version.tags.keys(), *version.tags.values()])
        return any(each.startswith(word) for each in re.findall(r"[^\W_]+", texts.lower()))

    def leaf(self, version: Version, leaf: Leaf) -> bool | None:
        special: dict[str, Callable[[Version, Leaf], bool | None]] = {
            "alias": lambda version, leaf: _any_of(
                [each.lower() for each in version.aliases], leaf, str.lower
            ),
            "base": lambda version, leaf: any(self.on_base(version, each) for each in _each(leaf)),
            "parent": self.derived,
            "ancestor": self.derived,
            "eval": self.evaluated,
        }
        if leaf.key.name in special:
            return special[leaf.key.name](version, leaf)
        return _compare(self.value(version, leaf.key), leaf)

    def derived(self, version: Version, leaf: Leaf) -> bool:
        found = {parent.ref for parent in version.parents}
        if leaf.key.name == "ancestor":
            found = self.ancestors(version)
        if isinstance(leaf, Missing):
            return not found
        return any(str(each.value) in found for each in _each(leaf))

    def evaluated(self, version: Version, leaf: Leaf) -> bool | None:
        key = leaf.key
        rows = [each for each in version.evaluations if each.metric == key.part]
        rows = [each for each in rows if key.dataset in {None, each.dataset}]
        values = [each.value for each in rows if key.split in {None, each.split or ""}]
        if isinstance(leaf, Missing):
            return not values
        return any(_compare(value, leaf) for value in values) if values else None

    def value(self, version: Version, key: Key) -> Any:
        live = [each for each in self.versions.values() if each.name == version.name and not each.deleted_at]
        found = {
            "name": version.name.lower(),
            "tag": version.tags.get(key.part),
            "run_id": None,
            "expression": version.recipe and version.recipe.expression,
            "derived": version.recipe is not None,
            "stale": version.ref in STALE,
            "revoked": version.revoked is not None,
            "affected": version.affected_by != (),
            "deleted": version.deleted_at is not None,
            "latest": version in live and version.version == max(each.version for each in live),
        }
        return found[key.name] if key.name in found else getattr(version, key.name)

    def on_base(self, version: Version, compare: Compare) -> bool:
        here = version.base_model
        ours = next((group for group in BASES if here.repo in group and not here.revision), {here.repo})
        names = [(repo, here.revision or "" if repo == here.repo else "") for repo in ours]
        texts = [f"{repo}@{revision}" for repo, revision in names] + [repo for repo, _ in names]
        known = [alias for alias, repo in BASE_ALIASES.items() if repo in ours]
        if compare.operator != "=":
            folded = Compare(compare.key, compare.operator, str(compare.value).lower())
            return any(_compare(text, compare) for text in texts) or any(
                _compare(alias, folded) for alias in known
            )
        repo, _, revision = str(compare.value).partition("@")
        if str(compare.value).lower() in known:
            return True
        return any(repo == each and revision in {"", its} for each, its in names)

    def ancestors(self, version: Version) -> set[str]:
        found: set[str] = set()
        queue = [version]
        while queue:
            for parent in queue.pop().parents:
                if parent.ref not in found:
                    found.add(parent.ref)
                    queue.append(self.versions[parent.ref])
        return found


def _all(values: list[bool | None]) -> bool | None:
    if False in values:
        return False
    return None if None in values else True


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _each(leaf: Leaf) -> list[Compare]:
    match leaf:
        case Among(key, values):
            return [Compare(key, "=", value) for value in values]
        case Compare():
            return [leaf]
        case _:
            return []


def _any_of(values: list[str], leaf: Leaf, fold: Callable[[str], str]) -> bool:
    if isinstance(leaf, Missing):
        return not values
    folded = [Compare(each.key, each.operator, fold(str(each.value))) for each in _each(leaf)]
    return any(_compare(value, each) for value in values for each in folded)


def _compare(found: Any, leaf: Leaf) -> bool | None:
    if isinstance(leaf, Missing):
        return found is None
    if found is None:
        return None
    if isinstance(leaf, Among):
        return any(_compare(found, each) for each in _each(leaf))
    value = leaf.value
    if leaf.key.name == "name":
        value = str(value).lower()
    if leaf.operator in {"LIKE", "ILIKE"}:
        folding = leaf.operator == "ILIKE"
        return _like(_folded(found) if folding else found, _folded(str(value)) if folding else str(value))
    if isinstance(found, datetime):
        if isinstance(value, timedelta):
            value = datetime.now(UTC) - value
        elif isinstance(value, int):
            found = (found - EPOCH) // timedelta(milliseconds=1)
    operations: dict[str, Callable[[Any, Any], bool]] = {
        "=": lambda a, b: a == b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }
    return operations[leaf.operator](found, value)


def _folded(text: str) -> str:
    return "".join(each.lower() if each.isascii() else each for each in text)


def _like(text: str, pattern: str) -> bool:
    pieces = re.findall(r"\\.|.", pattern, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    expression = "".join(wild.get(piece) or re.escape(piece[-1]) for piece in pieces)
    return re.fullmatch(expression, text, re.DOTALL) is not None
