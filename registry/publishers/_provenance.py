"""``provenance.json``: an in-toto statement with a SLSA provenance predicate. The same release gives the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Any

from registry.errors import RegistryError
from registry.hub import is_repo_id
from registry.publishers import Origin, PlannedFile, Release
from registry.publishers._upstream import told

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:adapter-registry:build:v1"
BUILDER = "urn:adapter-registry:builder:v1"
MAX_SIZE = 16 << 20


class NotOurs(RegistryError):
    """A provenance file that no registry wrote."""


def provenance(release: Release, files: Iterable[PlannedFile]) -> bytes:
    """The statement about these files."""
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": file.path, "digest": _hashes(file.sha256)} for file in files],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": _external(release),
                "internalParameters": _internal(release),
                "resolvedDependencies": _dependencies(release),
            },
            "runDetails": _run(release),
        },
    }
    return json.dumps(statement, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def subjects(content: bytes) -> dict[str, str]:
    """The files that a registry's statement tells of, with their digests. Raises ``NotOurs`` for anything else."""
    try:
        statement = json.loads(content)
        kind = statement["predicate"]["buildDefinition"]["buildType"]
        found = {str(each["name"]): f"sha256:{each['digest']['sha256']}" for each in statement["subject"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NotOurs("not a provenance statement") from error
    if statement.get("predicateType") != PREDICATE or kind != BUILD_TYPE:
        raise NotOurs("the provenance of something else")
    return found


def _external(release: Release) -> dict[str, Any]:
    """What the user decided: enough to ask for the same build again."""
    version = release.version
    asked: dict[str, Any] = {
        "target": release.target,
        "adapter": {"ref": version.ref, "digest": version.digest},
    }
    if version.recipe is not None:
        asked["expression"] = version.recipe.expression
        asked["resolved"] = version.recipe.resolved
        asked["recipe"] = {"digest": version.recipe.digest, "canonical": release.recipe}
    return asked


def _internal(release: Release) -> dict[str, Any]:
    """What the registry decided and knew by itself: how it computed, and what its inputs were derived from.

    The lineage is here because SLSA has no other room for it: nobody asked for it, as for external parameters, and
    what is further up than the inputs was neither needed for the build, as its dependencies, nor made by it, as its
    byproducts.
    """
    build = release.build
    found: dict[str, Any] = {}
    if build is not None:
        found |= {"device": build.device, "dtype": build.dtype, "seed": build.seed}
    if release.upstream is not None:
        found["upstream"] = told(release.upstream)
    return found


def _dependencies(release: Release) -> list[dict[str, Any]]:
    version = release.version
    found = [_adapter(origin) for origin in release.origins]
    itself: dict[str, Any] = {"name": version.ref, "digest": _hashes(version.digest)}
    if version.source is not None and version.source.startswith("hf://"):
        found.append({**itself, "uri": version.source})
    elif version.recipe is None and release.target == "model":
        found.append(itself)  # it was merged as it is
    base = _base(release)
    return [*found, base] if base.keys() & {"uri", "digest"} else found  # one of them is required


def _adapter(origin: Origin) -> dict[str, Any]:
    parent = origin.parent
    entry: dict[str, Any] = {
        "name": parent.ref,
        "digest": _hashes(parent.digest),
        "annotations": {"role": parent.relation, "coefficient": parent.coefficient},
    }
    if origin.repo is not None:
        entry["uri"] = f"hf://{origin.repo}@{origin.commit}"
    return entry


def _base(release: Release) -> dict[str, Any]:
    base = release.version.base_model
    entry: dict[str, Any] = {"name": "base model", "annotations": {"role": "base model"}}
    if base.repo and is_repo_id(base.repo):  # a path would tell about somebody's machine, and nothing else
        entry["uri"] = f"hf://{base.repo}" + (f"@{base.revision}" if base.revision else "")
        entry["annotations"] |= {"repo": base.repo, "revision": base.revision}
    if base.fingerprint is not None:
        entry["digest"] = _hashes(base.fingerprint)
    return entry


def _run(release: Release) -> dict[str, Any]:
    build, version = release.build, release.version
    builder: dict[str, Any] = {"id": BUILDER}
    if build is not None and build.libraries:
        builder["version"] = dict(build.libraries)
    metadata: dict[str, Any] = {}
    if build is not None:  # what came from files was built elsewhere, nobody here knows when
        finished = build.finished.astimezone(UTC).isoformat(timespec="seconds")
        metadata["finishedOn"] = finished.replace("+00:00", "Z")
    if version.recipe is not None:
        metadata["invocationId"] = version.recipe.digest
    return {"builder": builder, "metadata": metadata}


def _hashes(text: str) -> Mapping[str, str]:
    """A digest as in-toto writes it."""
    algorithm, _, value = text.partition(":")
    return {algorithm: value}
