"""The lines of a bundle: one model for each of its tables, in the order in which they are written and read.

A line refers to a line of an earlier table by its number there, counting from 1, and to content by its digest: no
row id of any database is in it. What follows from other lines (words, which version is the latest, what a revocation
affects) is left out and made again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from registry import base_layout, reference
from registry.errors import UsageError

FORMAT = 3
"""Version of the bundle format; a newer one is refused. What earlier ones lack, rules, sweeps and some fields, has a default."""

_PATH = re.compile(r"[^/\\\x00]+(?:/[^/\\\x00]+)*")
_NUMBER = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:e[+-][0-9]{1,3})?")
_MOST_METRIC = 200
_LONGEST = 2**31 - 1  # what an integer column holds on PostgreSQL


def _utc(value: datetime) -> datetime:
    if value.utcoffset() != timedelta(0):
        raise ValueError("a time that is not in UTC")
    return value


def _name(value: str) -> str:
    try:
        reference.check_name(value)
    except UsageError as error:
        raise ValueError(error.message) from None
    return value


def _alias(value: str) -> str:
    try:
        reference.check_alias(value)
    except UsageError as error:
        raise ValueError(error.message) from None
    return value


def inside(path: str) -> str:
    if _PATH.fullmatch(path) is None or not {".", ".."}.isdisjoint(path.split("/")):
        raise ValueError(f"{path[:100]!r} is not a path inside a folder")
    return path


def _storable(value: Any) -> Any:
    """JSON that every database can hold."""
    if isinstance(value, str):
        if "\x00" in value:
            raise ValueError("a text with a NUL character")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a number that is not finite")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _storable(key)
            _storable(item)
    elif isinstance(value, list):
        for item in value:
            _storable(item)
    return value


def _layout(value: dict[str, Any]) -> dict[str, Any]:
    try:
        base_layout.from_json(value)
        sound = isinstance(value["config"], dict) and all(
            isinstance(dtype, str) and all(type(length) is int and length >= 0 for length in shape)
            for dtype, *shape in value["tensors"].values()
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise ValueError("not what weight files hold")
    return value


def _reports(value: list[Any]) -> list[Any]:
    for item in value:
        match item:
            case {"module": str(), "values": dict(numbers)} if all(
                type(number) in {int, float} for number in numbers.values()
            ):
                continue
        raise ValueError("not a list of modules with numbers")
    return value


def _sizes(value: dict[str, Any]) -> dict[str, Any]:
    for path, item in value.items():
        inside(path)
        match item:
            case {"size": int(), "sha256": str()}:
                continue
        raise ValueError("a file without its size and digest")
    return value


def _constraint(value: str) -> str:
    """As a sweep writes it: a metric, how it is compared, and a number."""
    metric, operator, bound = ([*value.rsplit(" ", 2), "", ""])[:3]
    sound = 0 < len(metric) <= _MOST_METRIC and metric == metric.strip() and metric.isprintable()
    if not sound or operator not in {"<", "<=", ">", ">=", "="} or _NUMBER.fullmatch(bound) is None:
        raise ValueError("not a metric compared with a number")
    if not math.isfinite(float(bound)):
        raise ValueError("a number that is not finite")
    return value


Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
# What stands in an index has to fit an entry of PostgreSQL's, 2,704 bytes; commands take no more of it either.
Short = Annotated[Text, Field(max_length=200)]
Base = Annotated[Text, Field(max_length=300)]
Medium = Annotated[Text, Field(max_length=400)]
Subject = Annotated[Text, Field(max_length=620)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Time = Annotated[AwareDatetime, AfterValidator(_utc)]
Number = Annotated[int, Field(ge=1, le=_LONGEST)]
Count = Annotated[int, Field(ge=0, le=_LONGEST)]
Size = Annotated[int, Field(ge=0, le=2**63 - 1)]
Line = Annotated[int, Field(ge=1, le=2**63 - 1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Target = Literal["adapter", "model"]
Name = Annotated[Text, AfterValidator(_name)]
AliasName = Annotated[Text, AfterValidator(_alias)]
FilePath = Annotated[Text, AfterValidator(inside)]
Object = Annotated[dict[str, Any], AfterValidator(_storable)]
Layout = Annotated[Object, AfterValidator(_layout)]
Reports = Annotated[list[Any], AfterValidator(_storable), AfterValidator(_reports)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,39}$")]
Decimals = Annotated[str, Field(pattern=r"^-?[0-9]{1,80}(\.[0-9]{1,80})?$")]
Constraint = Annotated[Text, AfterValidator(_constraint)]
Sizes = Annotated[Object, AfterValidator(_sizes)]


class BundleLine(BaseModel):
    """Base of all lines: exactly these fields, each of exactly its type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class BaseModelLine(BundleLine):
    """In the order of repo and revision."""

    repo: Annotated[Base, Field(min_length=1)]
    revision: Base
    fingerprint: Short | None
    license: Short | None = None


class BaseAliasLine(BundleLine):
    """In the order of the alias in lower case; ``base`` is a line of ``base_models``."""

    alias: AliasName
    base: Line
    updated_at: Time
    updated_by: Short


class BaseLayoutLine(BundleLine):
    """In the order of the fingerprint."""

    fingerprint: Short
    layout: Layout
    created_at: Time


class AdapterLine(BundleLine):
    """In the order of the name in lower case."""

    name: Name
    last_version: Count
    created_at: Time
    created_by: Short


class BlobLine(BundleLine):
    """In the order of the digest."""

    digest: Digest
    size: Size
    created_at: Time


class ArtifactLine(BundleLine):
    """In the order of the digest; ``files`` maps relative paths to blobs, and is empty where none are held."""

    digest: Digest
    target: Target
    kind: Short
    rank: Count | None
    parameters: Size
    modules: Count
    dtype: Short
    size: Size
    not_composable: list[Text]
    created_at: Time
    files: dict[FilePath, Digest]


class RecipeLine(BundleLine):
    """In the order of the digest, which is that of ``canonical``."""

    digest: Digest
    canonical: Text
    created_at: Time


class RealisationLine(BundleLine):
    """In the order in which they were made."""

    recipe: Digest
    target: Target
    variant: Subject
    output: Digest
    device: Short
    dtype: Short
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
    libraries: dict[Text, Text]
    seconds: Finite
    report: Reports
    files: Sizes
    created_at: Time


class ParentLine(BundleLine):
    """An edge of the lineage; ``version`` is an earlier line of ``versions``."""

    version: Line
    relation: Literal["input", "declared"]
    coefficient: Text | None


class FollowedLine(BundleLine):
    """What an expression follows: an alias, or the latest (``""``), of an adapter, and the version it meant."""

    adapter: Line
    alias: Short
    version: Line


class VersionLine(BundleLine):
    """In the order in which they were made; an adapter's numbers come one by one, from 1."""

    adapter: Line
    number: Number
    artifact: Digest
    base: Line
    recipe: Digest | None
    expression: Text | None
    resolved: Text | None
    task: Short | None
    license: Short | None
    note: Text | None
    source: Text | None
    source_revision: Text | None = None
    origin: Text | None = None
    created_at: Time
    created_by: Short
    deleted_at: Time | None
    deleted_by: Short | None
    tags: dict[Short, Medium]
    parents: list[ParentLine]
    followed: list[FollowedLine]


class AliasLine(BundleLine):
    """In the order of the adapter and the alias in lower case."""

    adapter: Line
    alias: AliasName
    version: Line
    updated_at: Time
    updated_by: Short
    protected: bool


class RevocationLine(BundleLine):
    """In the order of the version."""

    version: Line
    reason: Text
    revoked_at: Time
    revoked_by: Short


class EvaluationLine(BundleLine):
    """In the order of the version, dataset, split and metric."""

    version: Line
    metric: Short
    dataset: Short
    split: Short
    value: Finite
    created_at: Time
    created_by: Short


class PublicationLine(BundleLine):
    """In the order in which they were made."""

    publish_id: Short
    version: Line
    repo: Short
    revision: Short
    target: Target
    state: Literal["pending", "done", "failed", "withdrawn"]
    commit: Short | None
    url: Text | None
    files: dict[Text, Text]
    error: Text | None
    pull_request: Count | None = None
    tag: Short | None = None
    tagged: bool = False
    created_at: Time
    created_by: Short
    finished_at: Time | None
    withdrawn_at: Time | None = None
    withdrawn_by: Short | None = None
    reason: Text | None = None


class SweepLine(BundleLine):
    """In the order in which they were begun; ``version`` is what the best point became, a line of ``versions``."""

    digest: Digest
    name: Name
    expression: Text
    pins: dict[Text, Text]
    variables: dict[Variable, Text]
    evaluator: Text
    evaluator_digest: Digest
    objectives: Annotated[list[tuple[Short, Literal["min", "max"]]], Field(min_length=1)]
    constraints: list[Constraint]
    search: Literal["grid", "bayes"]
    budget: Count | None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
    dataset: Short
    split: Short
    state: Literal["running", "stopped", "done"]
    version: Line | None
    created_at: Time
    created_by: Short
    finished_at: Time | None


class SweepPointLine(BundleLine):
    """In the order of the sweep, which is a line of ``sweeps``, and the position."""

    sweep: Line
    position: Number
    values: dict[Variable, Decimals]
    expression: Text
    recipe: Digest
    state: Literal["ok", "failed", "timeout"]
    metrics: dict[Short, Finite]
    attempts: Count
    seconds: Finite
    error: Text | None
    created_at: Time


class RuleLine(BundleLine):
    """In the order in which they were made. They come into an empty catalog only: what it publishes is its own decision."""

    selector: Medium
    alias: Short
    repo: Short
    revision: Short
    target: Target
    private: bool
    adopt: bool
    propose: bool
    tag: Short | None
    license: Short | None
    created_at: Time
    created_by: Short


class EventLine(BundleLine):
    """In the order in which it happened."""

    at: Time
    actor: Short
    action: Short
    subject: Subject
    detail: Object


TABLES: Mapping[str, type[BundleLine]] = {
    "base_models": BaseModelLine,
    "base_aliases": BaseAliasLine,
    "base_layouts": BaseLayoutLine,
    "adapters": AdapterLine,
    "blobs": BlobLine,
    "artifacts": ArtifactLine,
    "recipes": RecipeLine,
    "realisations": RealisationLine,
    "versions": VersionLine,
    "aliases": AliasLine,
    "revocations": RevocationLine,
    "evaluations": EvaluationLine,
    "publications": PublicationLine,
    "sweeps": SweepLine,
    "sweep_points": SweepPointLine,
    "rules": RuleLine,
    "events": EventLine,
}
"""The tables of a bundle, in their order: each refers to earlier ones only."""

_OF_SWEEPS = {"sweeps", "sweep_points"}
FORMER = {1: frozenset(TABLES) - {"rules"} - _OF_SWEEPS, 2: frozenset(TABLES) - _OF_SWEEPS}
"""The tables that bundles of earlier formats have."""
