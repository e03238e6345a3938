"""Our part of a README.md, and how it goes into one that other people write in, too.

Our part of the text stands between two markers, each a line of its own. The first one also lists what of the front
matter is ours, so that it can be taken back when a later release does not say it any more. Everything else is kept
byte for byte: text outside the markers, and keys, comments and order of the front matter. Our part is put behind the
text of a README that has none yet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from registry.errors import Conflict, UsageError

MAX_SIZE = 4 << 20
"""Bytes of a README.md that is merged; the Hub shows no larger one in full."""

MAX_FRONT = 1 << 18
"""Characters of front matter: reading YAML is slow."""
_MOST_VALUES = 50_000
_DEEPEST = 50

_BEGIN = "<!-- adapter-registry: begin"
_END = "<!-- adapter-registry: end -->"
_NOTICE = "What stands between here and the end marker is written anew by each release; the rest is yours."
_MARKER = re.compile(r"^<!-- adapter-registry: (?:(begin)(?: ([^\r\n]*))?|(end)) -->[ \t]*\r?$", re.MULTILINE)
_FRONT = re.compile(r"\A(\ufeff?\s*---[ \t]*\r?\n)(.*?)^(---[ \t]*)(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_TAGS = "tags"
_NUMBER = re.compile(r"[-+]?(?:0[xob][0-9a-f_]+|\.?[0-9][0-9_.]*(?:e[-+]?[0-9]+)?)", re.IGNORECASE | re.ASCII)


class _Broken(Exception):
    """What is wrong with a README, for a sentence that starts with its place."""


@dataclass(frozen=True)
class _Readme:
    """A README in pieces which, one after the other, are its text.

    ``said`` is what of the front matter is ours by its markers: keys, and of ``tags`` which.
    """

    opening: str
    front: str
    closing: str
    before: str
    block: str
    after: str
    data: Mapping[str, Any]
    said: Mapping[str, Any]


def compose(front: Mapping[str, Any], body: str) -> bytes:
    """A card of ours alone: front matter, and the text between its markers. Raises ``UsageError`` for one too long."""
    said = json.dumps({"keys": list(front), "tags": list(front.get(_TAGS, ()))}, ensure_ascii=True)
    for each in ("<", ">", "--"):  # none of what ends or nests a comment
        said = said.replace(each, "".join(f"\\u{ord(one):04x}" for one in each))
    quiet = body.replace("<!-- adapter-registry:", "<! -- adapter-registry:").strip("\n")
    lines = [_fence(_dump(front)), f"{_BEGIN} {said} -->", f"<!-- {_NOTICE} -->\n", quiet, f"\n{_END}\n"]
    card = "\n".join(lines).encode()
    for what, size, most in (("front matter", len(lines[0]), MAX_FRONT), ("text", len(card), MAX_SIZE)):
        if size > most:
            raise UsageError(
                f"the card's {what} has {size} characters, more than {most}", hint="shorten its template"
            )
    return card


def part(card: bytes) -> bytes:
    """What of a card is ours, the same bytes whatever stands around it, and all of a card that nobody else wrote in.

    Nothing where none is ours, or where it is broken.
    """
    try:
        found = _read(card)
    except _Broken:
        return b""
    if not found.block:
        return b""
    ours = {key: found.data[key] for key in found.said["keys"] if key in found.data}
    if _TAGS in ours:
        there = _texts(ours[_TAGS])
        ours[_TAGS] = [tag for tag in found.said["tags"] if tag in there]
    block = found.block.rstrip("\r\n") + "\n"
    return _bytes(f"{_fence(_dump(ours))}\n{block}")


def merge(ours: bytes, existing: bytes | None, *, repo: str = "the repo") -> bytes:
    """Our card inside what is there, which is kept but for our own part of it.

    Raises ``Conflict``, naming ``repo``, where it cannot be told what is whose.
    """
    if existing is None or not existing.strip():
        return ours
    if part(existing) == part(ours):
        return existing
    new = _read(part(ours))
    try:
        old = _read(existing)
        if _is_ours_alone(old):
            return ours
        front = _front(old, new)
    except _Broken as wrong:
        raise Conflict(
            f"README.md of {repo} {wrong}, so what is whose cannot be told",
            hint="mend it there, or delete the file, then publish again",
        ) from None
    if old.block:
        return _bytes(front + old.before + new.block.rstrip("\n") + _ending(old.block) + old.after)
    text = front + old.before
    ending = len(text) - len(text.rstrip("\n"))
    return _bytes(text + "\n" * max(0, 2 - ending) + new.block)


def _read(card: bytes) -> _Readme:
    if len(card) > MAX_SIZE:
        raise _Broken(f"has {len(card)} bytes, more than {MAX_SIZE}")
    text = card.decode("utf-8", "surrogateescape")
    opening = front = closing = ""
    rest, data = text, {}
    if match := _FRONT.match(text):
        opening, front = match[1], match[2]
        closing, rest = text[match.start(3) : match.end()], text[match.end() :]
        data = _mapping(front)
    marks = list(_MARKER.finditer(rest))
    kinds = ["end" if each[3] else "begin" for each in marks]
    if not marks:
        return _Readme(opening, front, closing, rest, "", "", data, {"keys": [], "tags": []})
    if kinds != ["begin", "end"]:
        raise _Broken(f"has the markers {', '.join(kinds[:6])} instead of one begin and one end")
    start, end = marks[0].start(), marks[1].end()
    end += 1 if rest[end : end + 1] == "\n" else 0
    return _Readme(
        opening, front, closing, rest[:start], rest[start:end], rest[end:], data, _said(marks[0][2])
    )


def _said(text: str | None) -> dict[str, list[str]]:
    try:
        found = json.loads(text or "")
        said = {name: found[name] for name in ("keys", "tags")}
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _Broken("has a begin marker that somebody changed") from None
    if not all(
        isinstance(each, list) and all(isinstance(one, str) for one in each) for each in said.values()
    ):
        raise _Broken("has a begin marker that somebody changed")
    return said


@lru_cache(maxsize=4)
def _mapping(front: str) -> dict[str, Any]:
    if len(front) > MAX_FRONT:
        raise _Broken(f"has front matter of {len(front)} characters, more than {MAX_FRONT}")
    try:
        loader = yaml.SafeLoader(front)
        node = loader.get_single_node()
        _require_plain(node, {})
        found = None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise _Broken("has front matter that is no YAML") from None
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise _Broken("has front matter that is no mapping")
    return found


def _require_plain(node: yaml.Node | None, sizes: dict[int, int], depth: int = 0) -> int:
    """How many values a node has with every alias written out. Raises ``_Broken`` for too many, or without an end."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if depth > _DEEPEST or sizes.get(id(node)) == 0:
        raise _Broken("has front matter that is nested too deep, or in itself")
    if id(node) not in sizes:
        sizes[id(node)] = 0  # as long as it is being counted
        items = (part for item in node.value for part in (item if isinstance(item, tuple) else (item,)))
        sizes[id(node)] = 1 + sum(_require_plain(item, sizes, depth + 1) for item in items)
    if sizes[id(node)] > _MOST_VALUES:
        raise _Broken(f"has front matter whose aliases stand for more than {_MOST_VALUES} values")
    return sizes[id(node)]


def _is_ours_alone(old: _Readme) -> bool:
    tags = set(_texts(old.data.get(_TAGS))) - set(old.said["tags"])
    comments = any(line.lstrip().startswith("#") for line in old.front.splitlines())
    around = (old.before + old.after).strip()
    return bool(old.block) and not (around or comments or tags or set(old.data) - set(old.said["keys"]))


def _front(old: _Readme, new: _Readme) -> str:
    """The front matter with our keys in place of those that were ours; ours win."""
    wanted = {key: value for key, value in old.data.items() if key not in old.said["keys"] or key == _TAGS}
    tags = [tag for tag in _texts(wanted.pop(_TAGS, None)) if tag not in old.said["tags"]]
    ours = {**new.data}
    if tags:
        there = [tag for tag in _texts(old.data.get(_TAGS)) if tag in tags or tag in new.data.get(_TAGS, ())]
        ours[_TAGS] = list(dict.fromkeys([*there, *new.data.get(_TAGS, ())]))
    wanted |= ours
    if wanted == old.data:
        return old.opening + old.front + old.closing
    if not old.opening:
        return _fence(_dump(wanted)) + "\n"
    mended = _mended(old.front, old.data, wanted)
    return old.opening + (_dump(wanted) if mended is None else mended) + (old.closing or "---\n")


def _mended(front: str, data: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The front matter with only the lines of changed keys written anew; None where that is not possible."""
    node = yaml.compose(front, Loader=yaml.SafeLoader)
    if node is None:
        return front + _dump(wanted)
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        return None
    starts = [key.start_mark.index for key, _ in node.value]
    kept = [front[: starts[0]]]
    for (key, _), start, end in zip(node.value, starts, [*starts[1:], len(front)], strict=True):
        name = key.value
        if name in wanted and wanted[name] == data[name]:
            kept.append(front[start:end])
            continue
        lines = re.findall(r".*\n|.+", front[start:end])
        behind = len(lines)
        while behind > 1 and not lines[behind - 1].split("#")[0].strip():
            behind -= 1
        kept += [_dump({name: wanted[name]})] if name in wanted else []
        kept += lines[behind:]
    if kept and not kept[-1].endswith("\n"):
        kept.append("\n")
    text = "".join(kept) + _dump({key: value for key, value in wanted.items() if key not in data})
    try:
        # What was cut out may have been needed elsewhere, as an anchor is.
        return text if yaml.safe_load(text) == wanted else None
    except yaml.YAMLError:
        return None


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.2, which the Hub reads, takes for a number and YAML 1.1 does not, such as ``1e3``."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    quoted = "'" if _NUMBER.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=quoted)


_Dumper.add_representer(str, _text)


def _dump(data: Mapping[str, Any]) -> str:
    if not data:
        return ""
    shown = _yaml(data, allow_unicode=True)
    # It writes line breaks of Unicode as they are, and reads other ones back.
    same = yaml.safe_load(shown) == data
    return shown if same else _yaml(data, allow_unicode=False)


def _yaml(data: Mapping[str, Any], *, allow_unicode: bool) -> str:
    return yaml.dump(dict(data), Dumper=_Dumper, sort_keys=False, allow_unicode=allow_unicode, width=10_000)


def _fence(front: str) -> str:
    return f"---\n{front}---\n"


def _texts(value: object) -> list[str]:
    several = value if isinstance(value, list) else [value]
    return [each for each in several if isinstance(each, str)]


def _ending(block: str) -> str:
    return block[len(block.rstrip("\r\n")) :]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
