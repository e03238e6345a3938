"""The registry beside a model of it that fits on a few pages: any sequence of changes, and both say the same."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.engine import make_url

from registry import Registry
from registry.errors import Conflict, NotFound, Refused, RegistryError
from registry.results import Composed, Version
from registry.verbs.gc import gc
from tests.adapters import make_lora
from tests.reliability.places import address, execute
from tests.reliability.servers import emptied

SMALL = {"model.layers.0.self_attn.q_proj": (4, 4)}
NAMES = ("a", "team/B", "c")
MADE = ("mix", "top")
"""Lines that are only composed, and follow others: what is rebuilt."""
ALIASES = ("prod", "Next")
SOURCES = 3
NAME = st.sampled_from(NAMES)
ANY = st.sampled_from(NAMES + MADE)
NUMBER = st.integers(1, 4)
ALIAS = st.sampled_from(ALIASES)
FOLLOWED = st.sampled_from((*NAMES, "a@prod", "team/B@Next", "c@prod"))
WEIGHT = st.sampled_from(("0.5", "1", "2"))
TEXT = st.text("xyz é'\"%", max_size=4).filter(lambda text: not text or text.strip() == text)
EXPECT = st.sampled_from((None, None, "none", 1, 2))
Key = tuple[str, int]
Expect = int | Literal["none"] | None
Step = Callable[..., None]


def step(*conditions: Callable[[Any], bool], **given: Any) -> Callable[[Step], Any]:
    """A rule that is counted."""

    def made(work: Step) -> Any:
        @wraps(work)
        def counted(self: Catalog, **drawn: Any) -> None:
            self.did[work.__name__] += 1
            work(self, **drawn)

        found: Any = rule(**given)
        found = found(counted)
        for condition in conditions:
            found = precondition(condition)(found)
        return found

    return made


@dataclass
class Made:
    """A version in the model. ``what`` is the same for what has to come out the same.

    ``terms`` are the references of its expression, with their weights, and ``pins`` what they meant.
    """

    what: tuple[Any, ...]
    digest: str
    terms: tuple[tuple[str, str], ...] = ()
    pins: tuple[Key, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    note: str | None = None
    deleted: bool = False
    revoked: bool = False


class Catalog(RuleBasedStateMachine):
    """Each rule does one thing to both, or sees that both refuse it."""

    did: Counter[str]
    template: str
    sources: Sequence[Path]

    @classmethod
    def prepare(cls, folder: Path, url: str) -> None:
        """Begin each sequence with a copy of the empty catalog at ``url``."""
        cls.template, cls.did = url, Counter()
        cls.sources = [
            make_lora(folder / f"s{number}", modules=SMALL, r=1, seed=number) for number in range(SOURCES)
        ]

    def __init__(self) -> None:
        super().__init__()
        self.did["sequences"] += 1
        self._folder = Path(tempfile.mkdtemp())
        self._homes = 0
        self._databases: list[str] = []
        self._catalog = self._open()
        self._lines: dict[str, list[Made]] = {}
        self._aliases: dict[tuple[str, str], int] = {}
        self._protected: set[tuple[str, str]] = set()
        self._bundles: list[tuple[Path, set[Key]]] = []

    def _open(self) -> Registry:
        self._homes += 1
        home = self._folder / f"home{self._homes}"
        home.mkdir()
        server = make_url(self.template)
        if server.get_backend_name() == "sqlite":
            shutil.copyfile(str(server.database), home / "registry.db")
            return Registry.open(home, database_url=f"sqlite:///{home}/registry.db")
        name = f"registry_{uuid.uuid4().hex[:12]}"
        execute(server.set(database="postgres"), f'CREATE DATABASE "{name}" TEMPLATE "{server.database}"')
        self._databases.append(name)
        return Registry.open(home, database_url=address(server, name))

    def teardown(self) -> None:
        self._catalog.close()
        for name in self._databases:
            execute(make_url(self.template).set(database="postgres"), f'DROP DATABASE "{name}" WITH (FORCE)')
        shutil.rmtree(self._folder, ignore_errors=True)

    # -- the model

    def _latest(self, name: str) -> int | None:
        live = [number for number, made in enumerate(self._lines.get(name, []), 1) if not made.deleted]
        return live[-1] if live else None

    def _made(self, key: Key) -> Made:
        return self._lines[key[0]][key[1] - 1]

    def _lives(self, name: str, number: int) -> bool:
        return number <= len(self._lines.get(name, [])) and not self._made((name, number)).deleted

    def _marked(self, key: Key) -> bool:
        """Revoked, or derived from what is."""
        made = self._made(key)
        return made.revoked or any(map(self._marked, made.pins))

    def _means(self, reference: str) -> Key | None:
        name, _, alias = reference.partition("@")
        number = self._aliases.get((name, alias)) if alias else self._latest(name)
        return None if number is None else (name, number)

    def _moved(self, key: Key) -> dict[str, Key | None]:
        """References of a composition that mean something else now; what became of its own line does not count."""
        moved = {}
        for (_, reference), pinned in zip(self._made(key).terms, self._made(key).pins, strict=True):
            now = self._means(reference)
            if now is not None and self._made(now).digest == self._made(pinned).digest:
                continue
            if pinned[0] != key[0] or now is None or now[1] < key[1]:
                moved[reference] = now
        return moved

    def _compositions(self) -> dict[str, Key]:
        """The latest version of each line, where it was composed."""
        latest = {name: (name, number) for name in self._lines if (number := self._latest(name)) is not None}
        return {name: key for name, key in latest.items() if self._made(key).terms}

    def _in_order(self) -> list[Key] | None:
        """The latest compositions, each after those whose latest it follows; None where they follow one another."""
        waiting, done = self._compositions(), list[Key]()
        while waiting:
            ready = [
                name
                for name, key in waiting.items()
                if not {ref.partition("@")[0] for _, ref in self._made(key).terms} & waiting.keys()
            ]
            if not ready:
                return None
            done += [waiting.pop(name) for name in ready]
        return done

    def _what(self, terms: Sequence[tuple[str, str]], pins: Sequence[Key]) -> tuple[Any, ...]:
        total: dict[tuple[Any, ...], float] = {}
        for (weight, _), pin in zip(terms, pins, strict=True):
            what = self._made(pin).what
            total[what] = total.get(what, 0.0) + float(weight)
        return ("recipe", tuple(sorted(total.items(), key=repr)))

    def _append(self, name: str, made: Version, version: Made) -> None:
        line = self._lines.setdefault(name, [])
        line.append(version)
        assert made.version == len(line)

    @initialize(furnished=st.sampled_from((True, True, False)))
    def begin(self, *, furnished: bool) -> None:
        """Most begin with something to follow."""
        if furnished:
            for source, name in enumerate(NAMES):
                self.add(name=name, source=source)
                self.point(name=name, alias=ALIASES[source % 2], number=1, expect=None, protect=False)
            self._compose("mix", (("0.5", "a"), ("1", "c")))
            self._compose("top", (("2", "team/B@Next"), ("1", "mix")))

    # -- versions

    @step(name=NAME, source=st.integers(0, SOURCES - 1))
    def add(self, name: str, source: int) -> None:
        added = self._catalog.add(self.sources[source], name)
        what = ("source", source)
        # The same content again is the newest live version that has it.
        known = [n for n, made in enumerate(self._lines.get(name, []), 1) if made.what == what]
        known = [number for number in known if self._lives(name, number)]
        if known:
            assert (added.created, added.version) == (False, known[-1])
        else:
            assert added.created
            self._append(name, added, Made(what, added.digest))

    @step(name=NAME, one=FOLLOWED, other=NAME, weight=WEIGHT)
    def compose(self, name: str, one: str, other: str, weight: str) -> None:
        self._compose(name, ((weight, one), ("1", other)))

    @step(name=st.sampled_from(MADE), one=FOLLOWED, other=NAME, weight=WEIGHT)
    def follow(self, name: str, one: str, other: str, weight: str) -> None:
        self._compose(name, ((weight, one), ("1", "mix" if name == "top" else other)))

    def _compose(self, name: str, terms: tuple[tuple[str, str], ...]) -> None:
        text = " + ".join(f"{weight}*{reference}" for weight, reference in terms)
        found = [self._means(reference) for _, reference in terms]
        pins = tuple(pin for pin in found if pin is not None)
        if len(pins) < len(terms):
            with pytest.raises(NotFound):
                self._catalog.compose(name, text, device="cpu")
            return
        if any(map(self._marked, pins)):
            with pytest.raises(Refused):
                self._catalog.compose(name, text, device="cpu")
            return
        made: Composed = self._catalog.compose(name, text, device="cpu")
        what = self._what(terms, pins)
        known = [n for n, each in enumerate(self._lines.get(name, []), 1) if each.what == what]
        known = [number for number in known if self._lives(name, number)]
        if known:
            assert (made.created, made.version) == (False, known[-1])
        else:
            assert made.created
            self.did["versions composed"] += 1
            self._append(name, made, Made(what, made.digest, terms, pins))

    @step(name=NAME, source=st.integers(0, SOURCES - 1))
    def rebuild(self, name: str, source: int) -> None:
        """After something moved that others may follow."""
        self.add(name=name, source=source)
        if self._in_order() is not None:
            self._rebuild()

    def _rebuild(self) -> None:
        told = {each.ref: each for each in self._catalog.rebuild(device="cpu")}
        states: dict[str, str] = {}
        for name, number in self._in_order() or ():
            old = self._made((name, number))
            ref, moved = f"{name}@{number}", self._moved((name, number))
            followed = {reference for _, reference in old.terms if "@" not in reference}
            pins = tuple(pin for _, reference in old.terms if (pin := self._means(reference)) is not None)
            if any(states.get(each) in {"failed", "blocked"} for each in followed):
                states[name] = "blocked"
            elif not moved:
                states[name] = "unchanged"
            elif len(pins) < len(old.terms) or any(map(self._marked, pins)):
                states[name] = "failed"
            else:
                states[name] = "made"
                self.did["versions rebuilt"] += 1
                assert told[ref].made == f"{name}@{len(self._lines[name]) + 1}"
                made = self._catalog.show(told[ref].made or "")
                new = Made(
                    self._what(old.terms, pins), made.digest, old.terms, pins, dict(old.tags), note=old.note
                )
                self._append(name, made, new)
            assert told[ref].state == states[name] if ref in told else states[name] == "unchanged", told

    @step(name=ANY, number=NUMBER)
    def delete(self, name: str, number: int) -> None:
        if not self._lives(name, number):
            with pytest.raises(NotFound):
                self._catalog.delete(f"{name}@{number}")
        elif number in [to for (line, _), to in self._aliases.items() if line == name]:
            with pytest.raises(Conflict):
                self._catalog.delete(f"{name}@{number}")
        else:
            self._catalog.delete(f"{name}@{number}")
            self._made((name, number)).deleted = True

    @step(name=ANY, number=NUMBER)
    def revoke(self, name: str, number: int) -> None:
        if number <= len(self._lines.get(name, [])):
            self._catalog.revoke(f"{name}@{number}", "bad")
            self._made((name, number)).revoked = True

    @step(name=ANY, number=NUMBER)
    def unrevoke(self, name: str, number: int) -> None:
        if number <= len(self._lines.get(name, [])) and self._made((name, number)).revoked:
            self._catalog.unrevoke(f"{name}@{number}")
            self._made((name, number)).revoked = False

    # -- what is said about them

    def _refusal(self, name: str, alias: str, expect: Expect, *, moves: bool) -> type[RegistryError] | None:
        """Why an alias that is there, or may be made, stays as it is."""
        there = self._aliases.get((name, alias))
        if expect is not None and there != (None if expect == "none" else expect):
            return Conflict
        return Conflict if moves and expect is None and (name, alias) in self._protected else None

    @step(name=ANY, alias=ALIAS, number=NUMBER, expect=EXPECT, protect=st.sampled_from((False, False, True)))
    def point(self, name: str, alias: str, number: int, expect: Expect, *, protect: bool) -> None:
        key, moves = (name, number), self._aliases.get((name, alias)) != number
        refusal: type[RegistryError] | None = None if self._lives(*key) else NotFound
        if refusal is None and self._refusal(name, alias, expect, moves=False):
            refusal = Conflict
        if refusal is None and moves and self._marked(key):
            refusal = Refused
        refusal = refusal or self._refusal(name, alias, expect, moves=moves)
        if refusal is not None:
            with pytest.raises(refusal):
                self._catalog.set_alias(name, alias, number, expect=expect, protect=protect)
            return
        moved = self._catalog.set_alias(name, alias, number, expect=expect, protect=protect)
        assert (moved.moved, moved.previous) == (moves, self._aliases.get((name, alias)))
        self._aliases[name, alias] = number
        self._protected |= {(name, alias)} if protect else set()

    @step(name=ANY, alias=ALIAS, expect=EXPECT)
    def unpoint(self, name: str, alias: str, expect: Expect) -> None:
        refusal: type[RegistryError] | None = NotFound
        if (name, alias) in self._aliases:
            refusal = self._refusal(name, alias, expect, moves=True)
        if refusal is not None:
            with pytest.raises(refusal):
                self._catalog.delete_alias(name, alias, expect=expect)
        else:
            self._catalog.delete_alias(name, alias, expect=expect)
            del self._aliases[name, alias]
            self._protected.discard((name, alias))

    @step(name=ANY, alias=ALIAS, protected=st.booleans())
    def protect(self, name: str, alias: str, *, protected: bool) -> None:
        if (name, alias) not in self._aliases:
            with pytest.raises(NotFound):
                self._catalog.protect_alias(name, alias, protected=protected)
            return
        self._catalog.protect_alias(name, alias, protected=protected)
        if protected:
            self._protected.add((name, alias))
        else:
            self._protected.discard((name, alias))

    @step(name=ANY, number=NUMBER, text=TEXT, what=st.sampled_from(("tag", "untag", "evaluate", "note")))
    def say(self, name: str, number: int, text: str, what: str) -> None:
        match what:
            case "tag":
                self._tag(name, number, text)
            case "untag":
                self._untag(name, number)
            case "evaluate":
                self._evaluate(name, number, len(text) / 7, text[:1] or "x")
            case _:
                self._write(name, number, text or None)

    def _tag(self, name: str, number: int, value: str) -> None:
        self._say(name, number, lambda ref: self._catalog.set_tags(ref, {"k": value}))
        if self._lives(name, number):
            self._made((name, number)).tags["k"] = value

    def _untag(self, name: str, number: int) -> None:
        if self._lives(name, number) and "k" not in self._made((name, number)).tags:
            with pytest.raises(NotFound):
                self._catalog.delete_tags(f"{name}@{number}", ["k"])
            return
        self._say(name, number, lambda ref: self._catalog.delete_tags(ref, ["k"]))
        if self._lives(name, number):
            del self._made((name, number)).tags["k"]

    def _evaluate(self, name: str, number: int, value: float, dataset: str) -> None:
        self._say(name, number, lambda ref: self._catalog.add_evaluation(ref, "m", value, dataset=dataset))
        if self._lives(name, number):
            self._made((name, number)).values[dataset] = value

    def _write(self, name: str, number: int, note: str | None) -> None:
        self._say(name, number, lambda ref: self._catalog.set_note(ref, note))
        if self._lives(name, number):
            self._made((name, number)).note = note

    def _say(self, name: str, number: int, say: Callable[[str], object]) -> None:
        if self._lives(name, number):
            say(f"{name}@{number}")
        else:
            with pytest.raises(NotFound):
                say(f"{name}@{number}")

    # -- the whole catalog

    @step()
    def collect(self) -> None:
        gc(self._catalog._database, self._catalog._blobs, apply=True, actor="tester", grace=timedelta(0))

    @step(lambda self: any(self._lines.values()))
    def move_house(self) -> None:
        """Exported, and imported elsewhere, it is the same catalog: the rest goes on there."""
        bundle = self._folder / f"bundle{self._homes}.tar"
        self._catalog.export(bundle)
        self._bundles.append((bundle, set(self._revoked())))
        self._catalog.close()
        self._catalog = self._open()
        assert self._catalog.import_bundle(bundle).complete
        again = self._folder / f"again{self._homes}.tar"
        self._catalog.export(again)
        assert again.read_bytes() == bundle.read_bytes()

    @step(lambda self: self._bundles, place=st.integers(0, 3))
    def look_back(self, place: int) -> None:
        """An older bundle of the same catalog changes nothing, but that what was revoked then is revoked again."""
        bundle, revoked = self._bundles[place % len(self._bundles)]
        told = self._catalog.import_bundle(bundle)
        assert (told.complete, told.extended, told.missing) == (False, 0, 0)
        for key in revoked:
            self._made(key).revoked = True

    def _revoked(self) -> Iterator[Key]:
        for name, line in self._lines.items():
            yield from ((name, number) for number, made in enumerate(line, 1) if made.revoked)

    # -- what holds after each

    @invariant()
    def both_say_the_same(self) -> None:
        for name, line in self._lines.items():
            there = {version.version: version for version in self._catalog.log(name)} if line else {}
            assert sorted(there) == list(range(1, len(line) + 1))
            for number, made in enumerate(line, 1):
                self._same(there[number], made)
        pointing = {(each.name, each.alias): each for each in self._catalog.aliases()}
        numbers = {key: int(each.ref.rpartition("@")[2]) for key, each in pointing.items()}
        assert numbers == self._aliases
        assert {key for key, each in pointing.items() if each.protected} == self._protected
        latest = {version.name: version.version for version in self._catalog.list(limit=50).versions}
        assert latest == {name: n for name in self._lines if (n := self._latest(name)) is not None}

    def _same(self, found: Version, made: Made) -> None:
        assert found.digest == made.digest
        assert (found.tags, found.note) == (made.tags, made.note)
        assert {each.dataset: each.value for each in found.evaluations} == made.values
        assert (found.deleted_at is not None) == made.deleted
        assert (found.revoked is not None) == made.revoked
        assert bool(found.affected_by) == any(map(self._marked, made.pins))
        assert {parent.ref for parent in found.parents} == {f"{line}@{n}" for line, n in made.pins}

    @invariant()
    def both_say_what_is_stale(self) -> None:
        told = {
            each.ref: {moved.reference: moved.current for moved in each.references}
            for each in self._catalog.stale()
        }
        expected: dict[str, Mapping[str, str | None]] = {}
        for key in self._compositions().values():
            if moved := self._moved(key):
                expected[f"{key[0]}@{key[1]}"] = {
                    self._told(each, now): None if now is None else f"{now[0]}@{now[1]}"
                    for each, now in moved.items()
                }
        assert told == expected

    @staticmethod
    def _told(reference: str, now: Key | None) -> str:
        """An alias that is gone is called by its key: nobody knows any more how it was written."""
        name, at, alias = reference.partition("@")
        return reference if now is not None else f"{name}{at}{alias.lower()}"

    @invariant()
    def what_lives_is_whole(self) -> None:
        assert [each.problems for each in self._catalog.verify() if not each.ok] == []


def run(sequences: int, *, steps: int, number: int | None = None) -> Counter[str]:
    """So many sequences of the machine, which was prepared; the same ones again, or those of a seed."""
    chosen = settings(
        max_examples=sequences,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=number is None,
        suppress_health_check=list(HealthCheck),
    )
    machine = Catalog if number is None else seed(number)(Catalog)
    run_state_machine_as_test(machine, settings=chosen)
    return Counter(Catalog.did)


def full(number: int = 0, sequences: int = 500, database: str = "sqlite") -> Counter[str]:
    """Sequences of fifty steps beside the model, on a "sqlite" or "postgresql" database; how often each was done.

    Prints the shortest sequence that it finds where both do not say the same.
    """
    with emptied(database) as (folder, url):
        Catalog.prepare(folder, url)
        try:
            run(sequences, steps=50, number=number)
        except AssertionError as finding:
            notes = "\n".join(getattr(finding, "__notes__", ()))
            print(f"{database} model, seed {number}: {finding}\n{notes}", flush=True)
            return Counter(Catalog.did) + Counter(findings=1)
        return Counter(Catalog.did)
