"""Who may write what on PostgreSQL: four roles, each with the rights of the one before it.

Everybody reads everything. The administrator owns the tables, and so needs no list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

ROLES = ("reader", "contributor", "publisher", "admin")

Columns = tuple[str, ...]
"""The columns that may be updated; none means all of them, or a right that knows no columns.

Whoever changes a row of content seals it anew.
"""

ALL: Columns = ()

RIGHTS: Mapping[str, Mapping[str, Mapping[str, Columns]]] = {
    "contributor": {
        "base_models": {"INSERT": ALL, "UPDATE": ("fingerprint", "license", "seal")},
        "base_aliases": {
            "INSERT": ALL,
            "UPDATE": ("base_model_id", "updated_at", "updated_by", "seal"),
            "DELETE": ALL,
        },
        "base_layouts": {"INSERT": ALL},
        "adapters": {"INSERT": ALL, "UPDATE": ("last_version",)},
        "blobs": {"INSERT": ALL},
        # What was told of content that was only known is corrected once it is seen.
        "artifacts": {
            "INSERT": ALL,
            "UPDATE": (
                *("kind", "rank", "parameters", "modules", "dtype", "size", "not_composable"),
                *("created_at", "seal"),
            ),
        },
        "artifact_files": {"INSERT": ALL},
        "recipes": {"INSERT": ALL},
        "realisations": {"INSERT": ALL},
        "versions": {"INSERT": ALL, "UPDATE": ("note", "latest_of", "deleted_at", "deleted_by", "seal")},
        "lineage": {"INSERT": ALL},
        "followed": {"INSERT": ALL},
        "affected": {"INSERT": ALL},
        "aliases": {
            "INSERT": ALL,
            "UPDATE": ("number", "version_id", "updated_at", "updated_by", "seal"),
            "DELETE": ALL,
        },
        "tags": {"INSERT": ALL, "UPDATE": ("value", "seal"), "DELETE": ALL},
        "name_words": {"INSERT": ALL},
        "words": {"INSERT": ALL, "DELETE": ALL},
        "evaluations": {"INSERT": ALL, "UPDATE": ("value", "created_at", "created_by", "seal")},
        "sweeps": {"INSERT": ALL, "UPDATE": ("state", "version_id", "finished_at", "seal")},
        "sweep_points": {
            "INSERT": ALL,
            "UPDATE": ("state", "metrics", "attempts", "seconds", "error", "created_at", "seal"),
        },
        "sketches": {"INSERT": ALL, "DELETE": ALL},
        "events": {"INSERT": ALL},
    },
    "publisher": {
        "aliases": {"UPDATE": ("protected",)},
        "rules": {"INSERT": ALL, "UPDATE": ALL, "DELETE": ALL},
        "publications": {"INSERT": ALL, "UPDATE": ALL},
    },
}
"""What each role may write beyond the one before it: by table, each right with its columns."""

TRIGGERS = ("registry_event_login", "registry_alias_protected")
"""What the roles add to the tables for what grants cannot say."""

_ASSIGNED = re.compile(r'(?:SET |, )"?(\w+)"?=')
_RIGHT_FOR = {"COPY": "INSERT", "SELECT": "UPDATE"}  # reading is refused to nobody but where it locks


def needed(table: str, statement: str) -> str:
    """The least role that may run a statement which was refused because of this table."""
    verb = statement.split(maxsplit=1)[0].upper() if statement.strip() else ""
    right = "INSERT" if verb == "LOCK" and "IN ROW EXCLUSIVE" in statement else _RIGHT_FOR.get(verb, verb)
    asked = set(_ASSIGNED.findall(statement.partition(" WHERE ")[0])) if verb == "UPDATE" else set()
    allowed: set[str] = set()
    for role, rights in RIGHTS.items():
        columns = rights.get(table, {}).get(right)
        if columns is not None:
            allowed.update(columns or asked)
            if asked <= allowed:
                return role
    return "admin"
