"""Names for adapters that are found below a folder: from their paths, the same whenever they are asked for."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from registry.digest import of_bytes
from registry.reference import MAX_LENGTH

_FOREIGN = re.compile(r"[^A-Za-z0-9._-]+")
_START = re.compile(r"^[^A-Za-z]+")
_MARK = 8  # digits of a digest that tell two apart


def names(paths: Iterable[str], *, prefix: str | None, root: str) -> dict[str, str]:
    """A name for each relative path; ``root`` is the name of the folder itself, for the path ``.``.

    The first part of a path groups, as in ``team/a``, and the others are joined by ``-``; with a ``prefix``, that
    groups, and all parts are joined. What no name may hold becomes ``-``, and what comes before the first letter of a
    part is left out. Where several would get one name, or names that differ by case alone, the first that is spelled
    just like its path keeps it; each other is marked with eight digits of its path's digest, and so is a name that had
    to be cut short.
    """
    wanted = {path: _name(path, prefix, root) for path in sorted(paths)}
    groups: dict[str, list[str]] = defaultdict(list)
    for path, name in wanted.items():
        groups[name.lower()].append(path)
    for alike in groups.values():
        exact = [path for path in alike if wanted[path] == (f"{prefix}/{path}" if prefix else path)]
        for path in alike:
            if len(alike) > 1 and path not in exact[:1]:
                wanted[path] = _marked(wanted[path], path)
    return wanted


def _name(path: str, prefix: str | None, root: str) -> str:
    parts = [_part(part) for part in PurePosixPath(path).parts] or [_part(root)]
    group, rest = (prefix, parts) if prefix else (None, parts) if len(parts) == 1 else (parts[0], parts[1:])
    name = "-".join(rest)
    name = f"{group}/{name}" if group else name
    return name if len(name) <= MAX_LENGTH else _marked(name, path)


def _part(text: str) -> str:
    return _START.sub("", _FOREIGN.sub("-", text)) or "adapter"


def _marked(name: str, path: str) -> str:
    mark = of_bytes(path.encode("utf-8", "surrogateescape")).removeprefix("sha256:")[:_MARK]
    return f"{name[: MAX_LENGTH - _MARK - 1]}-{mark}"
