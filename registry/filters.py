"""Filters: what listings are searched by, as text and as a tree. ``docs/filters.md`` says what each key means.

::

    task = 'qa' AND tag.team = 'x'                      MLflow's filter strings, unchanged
    toxic safety eval.toxicity['rtp'] < 0.1             words of names, notes and tags; metrics on a dataset
    base = 'meta/llama' AND NOT ancestor = 'toxic@2'    lineage

Logic is SQL's, of three values: what is missing compares as unknown, and only what is true is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from registry.reference import Reference

Value = str | int | float | bool | datetime | timedelta | Reference
"""A ``timedelta`` is that long ago; an ``int`` for a time is milliseconds since 1970."""


@dataclass(frozen=True)
class Key:
    """What is compared. ``part`` is a tag's key or a metric's name; ``dataset`` and ``split`` narrow a metric."""

    name: str
    part: str = ""
    dataset: str | None = None
    split: str | None = None

    def __str__(self) -> str:
        where = "" if self.dataset is None else f"[{self.dataset!r}]"
        return f"{self.name}.{self.part}{where}" if self.part else self.name


@dataclass(frozen=True)
class Compare:
    """``key operator value``. Operators are ``= < <= > >= LIKE ILIKE``; ``!=`` and ``NOT LIKE`` are negations."""

    key: Key
    operator: str
    value: Value


@dataclass(frozen=True)
class Among:
    """``key IN (values)``."""

    key: Key
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Missing:
    """``key IS NULL``."""

    key: Key


Leaf = Compare | Among | Missing
"""A condition on one key."""


@dataclass(frozen=True)
class Words:
    """Free text: each of its words begins some word of the name, the note or the tags."""

    text: str


@dataclass(frozen=True)
class Not:
    operand: Node


@dataclass(frozen=True)
class And:
    operands: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    operands: tuple[Node, ...]


Node = Leaf | Words | Not | And | Or

TEXTS = ("task", "kind", "license", "created_by", "note", "source", "digest", "expression", "run_id")
NUMBERS = ("version", "rank", "parameters", "size")
TIMES = ("created_at",)
FLAGS = ("derived", "stale", "revoked", "affected", "latest", "deleted")
REFERENCES = ("parent", "ancestor")
KEYS = ("name", "base", "alias", "tag", "eval", *TEXTS, *NUMBERS, *TIMES, *FLAGS, *REFERENCES)
SYNONYMS = {
    "tags": "tag",
    "version_number": "version",
    "source_path": "source",
    "creation_timestamp": "created_at",
    "last_updated_timestamp": "created_at",
}
"""Other names of keys, most of them MLflow's. A version does not change, so that it was last updated when made."""


@lru_cache(maxsize=256)  # of one search, page after page
def parse(text: str) -> Node:
    """The tree of a filter. Raises ``ExpressionError``, a ``UsageError`` that points at a column."""
    from registry import _filter_parser

    return _filter_parser.parse(text)


def conjuncts(node: Node) -> tuple[Node, ...]:
    """What all has to hold."""
    return node.operands if isinstance(node, And) else (node,)


def searched(node: Node) -> tuple[str, ...]:
    """What is searched for as words, first to last."""
    return tuple(leaf.text for leaf in leaves(node) if isinstance(leaf, Words))


def leaves(node: Node) -> Iterator[Leaf | Words]:
    """The single conditions of a tree, first to last."""
    match node:
        case And(operands) | Or(operands):
            for operand in operands:
                yield from leaves(operand)
        case Not(operand):
            yield from leaves(operand)
        case leaf:
            yield leaf


def mentions(node: Node, name: str) -> bool:
    """Whether a filter says anything about this key."""
    return any(not isinstance(leaf, Words) and leaf.key.name == name for leaf in leaves(node))
