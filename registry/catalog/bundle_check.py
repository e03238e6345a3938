"""A bundle on its own: every line is what it should be, in its place, and refers to what is there.

Of what was read only numbers are kept: some bytes for each adapter and version, and some 75 for each digest.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterator
from typing import Any, NoReturn, Protocol, TypeVar

from pydantic import ValidationError

from registry import recipe as recipes
from registry.catalog.bundle_lines import (
    TABLES,
    AdapterLine,
    AliasLine,
    ArtifactLine,
    BaseAliasLine,
    BaseLayoutLine,
    BaseModelLine,
    BlobLine,
    BundleLine,
    EvaluationLine,
    EventLine,
    PublicationLine,
    RealisationLine,
    RecipeLine,
    RevocationLine,
    RuleLine,
    SweepLine,
    SweepPointLine,
    VersionLine,
)
from registry.digest import PREFIX, of_bytes
from registry.errors import Refused

L = TypeVar("L", bound=BundleLine)
_FILES = {"adapter_config.json", "adapter_model.safetensors"}
D = TypeVar("D", BlobLine, ArtifactLine, RecipeLine)


class Source(Protocol):
    """Where lines come from: any table, as often as it is asked for, always the same bytes."""

    def lines(self, table: str) -> Iterator[bytes]: ...


class Digests:
    """Digests in ascending order."""

    def __init__(self) -> None:
        self._raw: list[bytes] = []

    def __len__(self) -> int:
        return len(self._raw)

    def __iter__(self) -> Iterator[str]:
        return (PREFIX + raw.hex() for raw in self._raw)

    def __contains__(self, digest: str) -> bool:
        return self.find(digest) is not None

    def append(self, digest: str) -> bool:
        """Whether the digest comes after all before it; only then is it taken."""
        raw = _raw(digest)
        if self._raw and raw <= self._raw[-1]:
            return False
        self._raw.append(raw)
        return True

    def find(self, digest: str) -> int | None:
        """Its place, counting from 0."""
        raw = _raw(digest)
        place = bisect_left(self._raw, raw)
        return place if place < len(self._raw) and self._raw[place] == raw else None


def _raw(digest: str) -> bytes:
    return bytes.fromhex(digest.removeprefix(PREFIX))


class Checked:
    """What is known of a bundle that was read once. Lines count from 1, so that place 0 is nobody's."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.blobs = Digests()
        self.artifacts = Digests()
        self.recipes = Digests()
        self.last_version = array("q", [0])  # by adapter: the number of its last version
        self.latest = array("q", [0])  # by adapter: the line of its latest live version
        self.adapter_of = array("q", [0])  # by version: the line of its adapter
        self.number_of = array("q", [0])
        self.deleted = bytearray(1)  # by version


def parse(table: str, model: type[L], source: Source) -> Iterator[tuple[int, L]]:
    """The numbered lines of a table. Raises ``Refused`` for one that is not as it should be."""
    read = model.__pydantic_validator__.validate_json
    for number, line in enumerate(source.lines(table), 1):
        try:
            yield number, read(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part)[:50] for part in first["loc"])
            refuse(table, number, f"{where}: {first['msg']}" if where else first["msg"])
        except RecursionError:
            refuse(table, number, "nested too deeply")


def refuse(table: str, number: int, what: str) -> NoReturn:
    raise Refused(
        f"the bundle is not sound: {table} line {number}: {what[:200]}", hint="export the catalog again"
    )


def check(source: Source) -> Checked:
    """Read a whole bundle. Raises ``Refused``, naming the table and the line."""
    return _Checker(source).run()


class _Checker:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._seen = Checked()
        self._variables: list[Collection[str]] = []  # by sweep

    def run(self) -> Checked:
        for table in TABLES:
            rows = 0
            for rows, _ in getattr(self, f"_{table}")():  # noqa: B007  (the last number is what is wanted)
                pass
            self._seen.rows[table] = rows
        return self._seen

    def _base_models(self) -> Iterator[tuple[int, Any]]:
        yield from self._ordered("base_models", BaseModelLine, lambda line: (line.repo, line.revision))

    def _base_aliases(self) -> Iterator[tuple[int, Any]]:
        for number, line in self._ordered("base_aliases", BaseAliasLine, lambda line: line.alias.lower()):
            self._require_line("base_aliases", number, "base", line.base, self._seen.rows["base_models"])
            yield number, line

    def _base_layouts(self) -> Iterator[tuple[int, Any]]:
        yield from self._ordered("base_layouts", BaseLayoutLine, lambda line: line.fingerprint)

    def _adapters(self) -> Iterator[tuple[int, Any]]:
        for number, line in self._ordered("adapters", AdapterLine, lambda line: line.name.lower()):
            self._seen.last_version.append(line.last_version)
            self._seen.latest.append(0)
            yield number, line

    def _blobs(self) -> Iterator[tuple[int, Any]]:
        yield from self._digests("blobs", BlobLine, self._seen.blobs)

    def _artifacts(self) -> Iterator[tuple[int, Any]]:
        for number, line in self._digests("artifacts", ArtifactLine, self._seen.artifacts):
            for digest in line.files.values():
                if digest not in self._seen.blobs:
                    refuse("artifacts", number, f"there is no blob {digest}")
            if line.files and line.target == "adapter" and not line.files.keys() >= _FILES:
                refuse("artifacts", number, f"an adapter's files are {' and '.join(sorted(_FILES))}")
            yield number, line

    def _recipes(self) -> Iterator[tuple[int, Any]]:
        for number, line in self._digests("recipes", RecipeLine, self._seen.recipes):
            if of_bytes(line.canonical.encode()) != line.digest:
                refuse("recipes", number, f"it is not the recipe {line.digest}")
            try:
                made = recipes.parse(json.loads(line.canonical)).digest
            except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
                made = None
            if made != line.digest:
                refuse("recipes", number, "it is no recipe of a format that is known here")
            yield number, line

    def _realisations(self) -> Iterator[tuple[int, Any]]:
        for number, line in parse("realisations", RealisationLine, self._source):
            if line.recipe not in self._seen.recipes:
                refuse("realisations", number, f"there is no recipe {line.recipe}")
            yield number, line

    def _versions(self) -> Iterator[tuple[int, Any]]:
        count = array("q", bytes(8 * len(self._seen.last_version)))
        for number, line in parse("versions", VersionLine, self._source):
            self._check_version(number, line, count)
            seen = self._seen
            seen.adapter_of.append(line.adapter)
            seen.number_of.append(line.number)
            seen.deleted.append(line.deleted_at is not None)
            if line.deleted_at is None:
                seen.latest[line.adapter] = number
            yield number, line
        for adapter, (found, said) in enumerate(zip(count, self._seen.last_version, strict=True)):
            if found != said:
                refuse("adapters", adapter, f"{said} versions are said to be there, but {found} are")

    def _check_version(self, number: int, line: VersionLine, count: array[int]) -> None:
        seen = self._seen
        self._require_line("versions", number, "adapter", line.adapter, len(count) - 1)
        self._require_line("versions", number, "base", line.base, seen.rows["base_models"])
        count[line.adapter] += 1
        if count[line.adapter] != line.number:
            refuse("versions", number, f"version {line.number} comes where {count[line.adapter]} should")
        if line.artifact not in seen.artifacts:
            refuse("versions", number, f"there is no artifact {line.artifact}")
        if line.recipe is not None and line.recipe not in seen.recipes:
            refuse("versions", number, f"there is no recipe {line.recipe}")
        if len({line.recipe is None, line.expression is None, line.resolved is None}) > 1:
            refuse("versions", number, "recipe, expression and resolved belong together")
        if (line.deleted_at is None) != (line.deleted_by is None):
            refuse("versions", number, "deleted_at and deleted_by belong together")
        self._check_graph(number, line)

    def _check_graph(self, number: int, line: VersionLine) -> None:
        """Parents come before their children, so that there is no cycle."""
        for parent in line.parents:
            self._require_line("versions", number, "parent", parent.version, number - 1)
        if len({(parent.relation, parent.version) for parent in line.parents}) != len(line.parents):
            refuse("versions", number, "a parent is named twice")
        for each in line.followed:
            self._require_line("versions", number, "followed", each.version, number - 1)
            if self._seen.adapter_of[each.version] != each.adapter:
                refuse("versions", number, "what it follows is a version of another adapter")
        if len({(each.adapter, each.alias) for each in line.followed}) != len(line.followed):
            refuse("versions", number, "something is followed twice")

    def _aliases(self) -> Iterator[tuple[int, Any]]:
        ordered = self._ordered("aliases", AliasLine, lambda line: (line.adapter, line.alias.lower()))
        for number, line in ordered:
            self._require_version("aliases", number, line.version)
            if self._seen.adapter_of[line.version] != line.adapter:
                refuse("aliases", number, "it points at a version of another adapter")
            if self._seen.deleted[line.version]:
                refuse("aliases", number, "it points at a version that was deleted")
            yield number, line

    def _revocations(self) -> Iterator[tuple[int, Any]]:
        for number, line in self._ordered("revocations", RevocationLine, lambda line: line.version):
            self._require_version("revocations", number, line.version)
            yield number, line

    def _evaluations(self) -> Iterator[tuple[int, Any]]:
        ordered = self._ordered(
            "evaluations", EvaluationLine, lambda line: (line.version, line.dataset, line.split, line.metric)
        )
        for number, line in ordered:
            self._require_version("evaluations", number, line.version)
            yield number, line

    def _publications(self) -> Iterator[tuple[int, Any]]:
        for number, line in parse("publications", PublicationLine, self._source):
            self._require_version("publications", number, line.version)
            if (line.state == "pending") != (line.finished_at is None):
                refuse("publications", number, "state and finished_at contradict each other")
            if line.state in {"done", "withdrawn"} and line.commit is None:
                refuse("publications", number, "it is done without a commit")
            if (line.state == "withdrawn") != (line.withdrawn_at is not None):
                refuse("publications", number, "state and withdrawn_at contradict each other")
            yield number, line

    def _sweeps(self) -> Iterator[tuple[int, Any]]:
        seen = set()
        for number, line in parse("sweeps", SweepLine, self._source):
            if line.digest in seen:
                refuse("sweeps", number, "it is there twice")
            seen.add(line.digest)
            if line.version is not None:
                self._require_version("sweeps", number, line.version)
            if (line.state == "running") != (line.finished_at is None):
                refuse("sweeps", number, "state and finished_at contradict each other")
            self._variables.append(line.variables.keys())
            yield number, line

    def _sweep_points(self) -> Iterator[tuple[int, Any]]:
        ordered = self._ordered("sweep_points", SweepPointLine, lambda line: (line.sweep, line.position))
        for number, line in ordered:
            self._require_line("sweep_points", number, "sweep", line.sweep, self._seen.rows["sweeps"])
            if line.recipe not in self._seen.recipes:
                refuse("sweep_points", number, f"there is no recipe {line.recipe}")
            if (line.state == "ok") != (line.error is None) or (line.state == "ok") != bool(line.metrics):
                refuse("sweep_points", number, "state, metrics and error contradict each other")
            if line.values.keys() != self._variables[line.sweep - 1]:
                refuse("sweep_points", number, "its values are not those of the sweep's variables")
            yield number, line

    def _rules(self) -> Iterator[tuple[int, Any]]:
        seen = set()
        for number, line in parse("rules", RuleLine, self._source):
            key = (line.selector, line.alias, line.repo, line.revision, line.target)
            if key in seen:
                refuse("rules", number, "it is there twice")
            seen.add(key)
            yield number, line

    def _events(self) -> Iterator[tuple[int, Any]]:
        yield from parse("events", EventLine, self._source)

    def _ordered(self, table: str, model: type[L], key: Any) -> Iterator[tuple[int, L]]:
        before: Any = None
        for number, line in parse(table, model, self._source):
            # Compared as the databases do, by bytes: Python's order of code points is the same.
            here = key(line)
            if before is not None and here <= before:
                refuse(table, number, "it is there twice, or out of order")
            before = here
            yield number, line

    def _digests(self, table: str, model: type[D], digests: Digests) -> Iterator[tuple[int, D]]:
        for number, line in parse(table, model, self._source):
            if not digests.append(line.digest):
                refuse(table, number, "it is there twice, or out of order")
            yield number, line

    def _require_version(self, table: str, number: int, line: int) -> None:
        self._require_line(table, number, "version", line, len(self._seen.adapter_of) - 1)

    @staticmethod
    def _require_line(table: str, number: int, what: str, line: int, last: int) -> None:
        if line > last:
            refuse(table, number, f"{what}: there is no line {line} to refer to")
