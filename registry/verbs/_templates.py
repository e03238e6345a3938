"""Templates of rules: where a version goes, told by fields such as ``team/{name}``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from registry.errors import Refused, UsageError
from registry.results import Version

FIELDS = ("name", "fullname", "version", "alias", "task", "kind", "base")
_FIELD = re.compile(r"\{([^{}]*)\}")
_LONGEST = 200
_SAMPLE = dict.fromkeys(FIELDS, "x") | {"version": "1"}


def check(what: str, template: str, *, alias: str | None) -> str:
    """What the template gives for a plain sample. Raises ``UsageError`` for one that cannot be filled in."""
    if len(template) > _LONGEST:
        raise UsageError(
            f"the template of the {what} is {len(template)} characters long", hint=f"at most {_LONGEST}"
        )
    for field in _FIELD.findall(template):
        if field not in FIELDS:
            raise UsageError(
                f"{{{field}}} in {template!r} is no field of a {what}", hint=f"fields: {_listed(FIELDS)}"
            )
        if field == "alias" and alias is None:
            raise UsageError(f"{template!r} names an alias, but the rule has none", hint="add --alias ALIAS")
    if set("{}") & set(_FIELD.sub("", template)):
        raise UsageError(
            f"{template!r} has a brace without its other half", hint=f"fields: {_listed(FIELDS)}"
        )
    return _FIELD.sub(lambda found: _SAMPLE[found[1]], template)


def fill(template: str, fields: Mapping[str, str | None], ref: str) -> str:
    """Raises ``Refused`` where a field of the template is not known of the version ``ref``."""

    def value(found: re.Match[str]) -> str:
        known = fields.get(found[1])
        if known is None:
            raise Refused(
                f"{ref} has no {_WORDS.get(found[1], found[1])}, which {template!r} asks for",
                hint="change the rule, or let it mean versions that have one",
            )
        return known

    return _FIELD.sub(value, template)


def fields(version: Version, alias: str | None) -> dict[str, str | None]:
    """What the fields are for a version; None where it is not known."""
    base = version.base_model.repo
    return {
        "name": version.name.rpartition("/")[2],
        "fullname": version.name.replace("/", "-"),
        "version": str(version.version),
        "alias": alias,
        "task": version.task,
        "kind": version.kind,
        "base": base.rstrip("/").rpartition("/")[2] if base else None,
    }


_WORDS = {"base": "base model with a name"}


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
