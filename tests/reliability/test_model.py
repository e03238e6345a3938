"""The registry beside a model of it that fits on a page: any sequence of changes, and both say the same."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from registry import Registry
from registry.catalog import migrate
from registry.errors import Conflict, NotFound, Refused
from registry.verbs.gc import gc
from tests.adapters import make_lora

SMALL = {"model.layers.0.self_attn.q_proj": (4, 4)}
NAMES = ("a", "team/B", "c")
SOURCES = 3
NAME = st.sampled_from(NAMES)
NUMBER = st.integers(1, 4)
ALIAS = st.sampled_from(("prod", "Next"))
WEIGHT = st.sampled_from(("0.5", "1", "2"))


@dataclass
class Made:
    """A version in the model. ``what`` is the same for what has to come out the same."""

    what: tuple[Any, ...]
    parents: tuple[tuple[str, int], ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    deleted: bool = False
    revoked: bool = False


class Catalog(RuleBasedStateMachine):
    """Each rule does one thing to both, or sees that both refuse it."""

    @classmethod
    def prepare(cls, folder: Path) -> None:
        cls.template = folder / "template.db"
        migrate.upgrade(f"sqlite:///{cls.template}")
        cls.sources = [
            make_lora(folder / f"s{seed}", modules=SMALL, r=1, seed=seed) for seed in range(SOURCES)
        ]

    template: Path
    sources: Sequence[Path]

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp())
        self._homes = 0
        self._catalog = self._open()
        self._lines: dict[str, list[Made]] = {}
        self._aliases: dict[tuple[str, str], int] = {}

    def _open(self) -> Registry:
        self._homes += 1
        home = self._folder / f"home{self._homes}"
        home.mkdir()
        shutil.copyfile(self.template, home / "registry.db")
        return Registry.open(home, database_url=f"sqlite:///{home}/registry.db")

    def teardown(self) -> None:
        self._catalog.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _latest(self, name: str) -> int | None:
        live = [number for number, made in enumerate(self._lines.get(name, []), 1) if not made.deleted]
        return live[-1] if live else None

    def _made(self, key: tuple[str, int]) -> Made:
        return self._lines[key[0]][key[1] - 1]

    def _exists(self, name: str, number: int) -> bool:
        return number <= len(self._lines.get(name, []))

    def _marked(self, key: tuple[str, int]) -> bool:
        """Revoked, or derived from what is."""
        made = self._made(key)
        return made.revoked or any(map(self._marked, made.parents))

    @rule(name=NAME, source=st.integers(0, SOURCES - 1))
    def add(self, name: str, source: int) -> None:
        added = self._catalog.add(self.sources[source], name)
        what = ("source", source)
        line = self._lines.setdefault(name, [])
        # The same content again is the newest live version that has it.
        known = [n for n, made in enumerate(line, 1) if made.what == what and not made.deleted]
        if known:
            assert (added.created, added.version) == (False, known[-1])
        else:
            line.append(Made(what))
            assert (added.created, added.version) == (True, len(line))

    @rule(name=NAME, one=NAME, other=NAME, weight=WEIGHT)
    def compose(self, name: str, one: str, other: str, weight: str) -> None:
        pins = [(each, self._latest(each)) for each in (one, other)]
        text = f"{weight}*{one} + {other}"
        if any(number is None for _, number in pins):
            with pytest.raises(NotFound):
                self._catalog.compose(name, text, device="cpu")
            return
        keys = [(each, number) for each, number in pins if number is not None]
        if any(map(self._marked, keys)):
            with pytest.raises(Refused):
                self._catalog.compose(name, text, device="cpu")
            return
        made = self._catalog.compose(name, text, device="cpu")
        terms: dict[tuple[Any, ...], float] = {}
        for key, share in zip(keys, (float(weight), 1.0), strict=True):
            what = self._made(key).what
            terms[what] = terms.get(what, 0.0) + share
        what = ("recipe", tuple(sorted(terms.items(), key=repr)))
        line = self._lines.setdefault(name, [])
        known = [n for n, each in enumerate(line, 1) if each.what == what and not each.deleted]
        if known:
            assert (made.created, made.version) == (False, known[-1])
        else:
            line.append(Made(what, tuple(dict.fromkeys(keys))))
            assert (made.created, made.version) == (True, len(line))

    @rule(name=NAME, alias=ALIAS, number=NUMBER)
    def point(self, name: str, alias: str, number: int) -> None:
        key = (name, number)
        if not self._exists(*key) or self._made(key).deleted:
            with pytest.raises(NotFound):
                self._catalog.set_alias(name, alias, number)
        elif self._marked(key) and self._aliases.get((name, alias)) != number:
            with pytest.raises(Refused):
                self._catalog.set_alias(name, alias, number)
        else:
            self._catalog.set_alias(name, alias, number)
            self._aliases[name, alias] = number

    @rule(name=NAME, alias=ALIAS)
    def unpoint(self, name: str, alias: str) -> None:
        if (name, alias) in self._aliases:
            self._catalog.delete_alias(name, alias)
            del self._aliases[name, alias]
        else:
            with pytest.raises(NotFound):
                self._catalog.delete_alias(name, alias)

    @rule(
        name=NAME,
        number=NUMBER,
        value=st.text("xyz é'\"%", max_size=4).filter(lambda text: not text or text.strip()),
    )
    def tag(self, name: str, number: int, value: str) -> None:
        if not self._exists(name, number) or self._made((name, number)).deleted:
            with pytest.raises(NotFound):
                self._catalog.set_tags(f"{name}@{number}", {"k": value})
        else:
            self._catalog.set_tags(f"{name}@{number}", {"k": value})
            self._made((name, number)).tags["k"] = value

    @rule(name=NAME, number=NUMBER)
    def delete(self, name: str, number: int) -> None:
        if not self._exists(name, number) or self._made((name, number)).deleted:
            with pytest.raises(NotFound):
                self._catalog.delete(f"{name}@{number}")
        elif number in [to for (line, _), to in self._aliases.items() if line == name]:
            with pytest.raises(Conflict):
                self._catalog.delete(f"{name}@{number}")
        else:
            self._catalog.delete(f"{name}@{number}")
            self._made((name, number)).deleted = True

    @rule(name=NAME, number=NUMBER)
    def revoke(self, name: str, number: int) -> None:
        if self._exists(name, number):
            self._catalog.revoke(f"{name}@{number}", "bad")
            self._made((name, number)).revoked = True

    @rule(name=NAME, number=NUMBER)
    def unrevoke(self, name: str, number: int) -> None:
        if self._exists(name, number) and self._made((name, number)).revoked:
            self._catalog.unrevoke(f"{name}@{number}")
            self._made((name, number)).revoked = False

    @rule()
    def collect(self) -> None:
        gc(self._catalog._database, self._catalog._blobs, apply=True, actor="tester", grace=timedelta(0))

    @precondition(lambda self: any(self._lines.values()))
    @rule()
    def move_house(self) -> None:
        """Exported, and imported elsewhere, it is the same catalog: the rest goes on there."""
        bundle = self._folder / f"bundle{self._homes}.tar"
        self._catalog.export(bundle)
        self._catalog.close()
        self._catalog = self._open()
        self._catalog.import_bundle(bundle)
        again = self._folder / f"again{self._homes}.tar"
        self._catalog.export(again)
        assert again.read_bytes() == bundle.read_bytes()

    @invariant()
    def both_say_the_same(self) -> None:
        there: dict[str, dict[int, Any]] = {}
        for name in self._lines:
            for version in self._catalog.log(name) if self._lines[name] else ():
                there.setdefault(name, {})[version.version] = version
        for name, line in self._lines.items():
            assert sorted(there.get(name, {})) == list(range(1, len(line) + 1))
            for number, made in enumerate(line, 1):
                found = there[name][number]
                assert found.tags == made.tags
                assert (found.deleted_at is not None) == made.deleted
                assert (found.revoked is not None) == made.revoked
                assert bool(found.affected_by) == any(map(self._marked, made.parents))
                parents = tuple(dict.fromkeys(f"{line}@{n}" for line, n in made.parents))
                assert {parent.ref for parent in found.parents} == set(parents)
        pointing = {
            (each.name, each.alias): int(each.ref.rpartition("@")[2]) for each in self._catalog.aliases()
        }
        assert pointing == self._aliases
        latest = {version.name: version.version for version in self._catalog.list(limit=50).versions}
        assert latest == {name: n for name in self._lines if (n := self._latest(name)) is not None}

    @invariant()
    def what_lives_is_whole(self) -> None:
        assert [each.problems for each in self._catalog.verify() if not each.ok] == []


def test_any_sequence_of_changes_gives_what_the_model_says(tmp_path: Path) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    Catalog.prepare(tmp_path)
    run_state_machine_as_test(
        Catalog,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
