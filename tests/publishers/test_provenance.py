"""The provenance statement."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from registry.publishers import Plan, Release, planned
from registry.publishers._provenance import (
    BUILD_TYPE,
    PREDICATE,
    STATEMENT,
    NotOurs,
    provenance,
    subjects,
)
from registry.publishers._upstream import MAX_BYTES, MAX_NODES, Ancestor, Upstream, told
from registry.publishers.hub import plan
from registry.results import BaseModelIdentity
from tests.publishers import releases

FILES = [planned("adapter_config.json", b"{}"), planned("sub/model.safetensors", b"\0" * 20)]


def statement(release: Release) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(provenance(release, FILES))
    return found


def test_it_is_an_in_toto_statement_with_slsa_provenance() -> None:
    found = statement(releases.release())
    assert (found["_type"], found["predicateType"]) == (STATEMENT, PREDICATE)
    assert found["subject"] == [
        {"name": file.path, "digest": {"sha256": file.sha256.removeprefix("sha256:")}} for file in FILES
    ]
    assert set(found["predicate"]) == {"buildDefinition", "runDetails"}
    made = found["predicate"]["buildDefinition"]
    assert made["buildType"] == BUILD_TYPE
    assert made["externalParameters"] == {
        "target": "adapter",
        "adapter": {"ref": "detox@2", "digest": releases.DETOX},
        "expression": "alpaca@prod - 0.4*toxic",
        "resolved": "alpaca@3 - 0.4*toxic@1",
        "recipe": {"digest": releases.RECIPE, "canonical": releases.release().recipe},
    }
    assert made["internalParameters"] == {"device": "cuda", "dtype": "float32", "seed": 7}
    assert found["predicate"]["runDetails"] == {
        "builder": {
            "id": "urn:adapter-registry:builder:v1",
            "version": {"torch": "2.13.0", "adapter-registry": "0.1.0"},
        },
        "metadata": {"invocationId": releases.RECIPE, "finishedOn": "2026-11-21T12:30:00Z"},
    }


def test_it_names_every_input_and_the_base_model() -> None:
    found = statement(releases.release())["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert found == [
        {
            "name": "alpaca@3",
            "digest": {"sha256": "1" * 64},
            "annotations": {"role": "input", "coefficient": "1"},
        },
        {
            "name": "toxic@1",
            "digest": {"sha256": "2" * 64},
            "uri": f"hf://team/toxic@{'c' * 40}",
            "annotations": {"role": "input", "coefficient": "-0.4"},
        },
        {
            "name": "base model",
            "digest": {"sha256": "5" * 64},
            "uri": "hf://org/llama@abc",
            "annotations": {"role": "base model", "repo": "org/llama", "revision": "abc"},
        },
    ]


def test_it_tells_nothing_of_the_machine() -> None:
    release = releases.imported(
        source="/home/ann/adapters/toxic", base_model=BaseModelIdentity(repo="/home/ann/llama")
    )
    content = provenance(release, FILES).decode()
    assert "/home" not in content
    assert "ann" not in content.replace("annotations", "")


def test_an_import_from_the_hub_names_its_source() -> None:
    found = statement(releases.imported(source="hf://org/toxic@abc"))
    assert found["predicate"]["buildDefinition"]["resolvedDependencies"][0] == {
        "name": "detox@2",
        "uri": "hf://org/toxic@abc",
        "digest": {"sha256": "3" * 64},
    }


def test_an_adapter_that_was_merged_as_it_is_is_what_the_model_was_made_of() -> None:
    merged = replace(releases.imported(source="/home/ann/toxic"), target="model")
    made = statement(merged)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert made[0] == {"name": "detox@2", "digest": {"sha256": "3" * 64}}
    plain = statement(releases.imported(source="/home/ann/toxic"))["predicate"]
    assert [each["name"] for each in plain["buildDefinition"]["resolvedDependencies"]] == ["base model"]


def test_of_what_came_from_files_nobody_says_when_it_was_built() -> None:
    assert statement(releases.imported())["predicate"]["runDetails"]["metadata"] == {}


def test_equal_releases_give_equal_bytes() -> None:
    assert provenance(releases.release(), FILES) == provenance(releases.release(), FILES)


def test_only_our_own_statements_are_taken_for_ours() -> None:
    ours = provenance(releases.release(), FILES)
    assert subjects(ours) == {file.path: file.sha256 for file in FILES}
    for changed in (
        ours.replace(b"adapter-registry:build", b"somebody:build"),
        ours.replace(b"slsa.dev/provenance/v1", b"slsa.dev/other"),
        b"[]",
        b'"text"',
        b"{}",
        b"\xff",
        b"[" * 100_000,
        ours.replace(b'"sha256"', b'"md5"'),
    ):
        with pytest.raises(NotOurs):
            subjects(changed)


def test_a_card_and_provenance_of_the_base_model_are_not_passed_on() -> None:
    built = {path: planned(path, b"old") for path in ("README.md", "config.json", "provenance.json")}
    made: Plan = plan(releases.release("model"), built, "team/x")
    assert set(made.files) == {"README.md", "config.json", "provenance.json"}
    assert b"old" not in {file.source for path, file in made.files.items() if path != "config.json"}
    assert set(subjects(bytes_of(made, "provenance.json"))) == {"config.json"}


def check(statement: dict[str, Any]) -> None:
    """The field types of an in-toto Statement v1 with a SLSA Provenance v1 predicate, and no field that they lack.

    From in-toto/attestation spec/v1 (statement, resource_descriptor, digest_set, field_types) and slsa.dev/provenance/v1.
    """
    assert set(statement) == {"_type", "subject", "predicateType", "predicate"}
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"]
    for subject in statement["subject"]:
        check_resource(subject)
        assert subject["digest"], "matched by digest alone"
    names = [subject["name"] for subject in statement["subject"]]
    assert len(set(names)) == len(names)
    predicate = statement["predicate"]
    assert set(predicate) == {"buildDefinition", "runDetails"}
    made, run = predicate["buildDefinition"], predicate["runDetails"]
    assert {"buildType", "externalParameters"} <= set(made)
    assert set(made) <= {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"}
    check_uri(made["buildType"])
    assert isinstance(made["externalParameters"], dict)
    assert isinstance(made.get("internalParameters", {}), dict)
    for dependency in made.get("resolvedDependencies", []):
        check_resource(dependency)
    assert "builder" in run
    assert set(run) <= {"builder", "metadata", "byproducts"}
    assert "id" in run["builder"]
    assert set(run["builder"]) <= {"id", "builderDependencies", "version"}
    check_uri(run["builder"]["id"])
    for name, version in run["builder"].get("version", {}).items():
        assert isinstance(name, str)
        assert isinstance(version, str)
    metadata = run.get("metadata", {})
    assert set(metadata) <= {"invocationId", "startedOn", "finishedOn"}
    assert isinstance(metadata.get("invocationId", ""), str)
    for moment in (metadata[key] for key in ("startedOn", "finishedOn") if key in metadata):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", moment), "RFC 3339, in UTC"
    for byproduct in run.get("byproducts", []):
        check_resource(byproduct)


def check_resource(resource: dict[str, Any]) -> None:
    known = {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}
    assert set(resource) <= known
    assert resource.keys() & {"uri", "digest", "content"}, "one of them is required"
    assert isinstance(resource.get("name", ""), str)
    if "uri" in resource:
        check_uri(resource["uri"])
    for algorithm, value in resource.get("digest", {}).items():
        assert algorithm == "sha256"
        assert re.fullmatch(r"[0-9a-f]{64}", value)
    assert isinstance(resource.get("annotations", {}), dict)


def check_uri(text: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9+.-]*:[^\s]+", text)


RELEASES = {
    "composed": releases.release(),
    "of a model": releases.release("model"),
    "imported": releases.imported(source="hf://org/toxic@abc"),
    "on a base by its path": releases.imported(base_model=BaseModelIdentity(repo="/home/ann/llama")),
    "with its lineage": replace(
        releases.release(),
        upstream=Upstream((Ancestor(releases.version(), releases.release().recipe, "hf://a/b@c"),)),
    ),
}


@pytest.mark.parametrize("which", RELEASES)
def test_its_fields_are_those_of_the_specifications(which: str) -> None:
    check(statement(RELEASES[which]))


def test_the_lineage_tells_what_a_version_is_and_nothing_of_its_owner() -> None:
    shown = releases.version(
        note="a secret note", tags={"owner": "bob"}, source="/home/ann/x", aliases=("prod",), license="mit"
    )
    found = statement(replace(releases.release(), upstream=Upstream((Ancestor(shown),))))
    lineage = found["predicate"]["buildDefinition"]["internalParameters"]["upstream"]
    assert (lineage["format"], lineage["truncated"]) == (1, False)
    (node,) = lineage["versions"]
    assert (node["ref"], node["license"], node["rank"]) == ("detox@2", "mit", 8)
    text = json.dumps(node)
    assert not [word for word in ("secret", "bob", "/home", "prod", "created_by") if word in text]


def test_a_lineage_that_is_too_large_is_cut_and_says_so() -> None:
    few = Upstream(tuple(Ancestor(releases.version(ref=f"a@{number}")) for number in range(1, MAX_NODES + 2)))
    cut = told(few)
    assert cut["truncated"]
    assert len(cut["versions"]) == MAX_NODES
    huge = releases.version(task="x" * (MAX_BYTES // 2))
    cut = told(Upstream((Ancestor(huge), Ancestor(huge), Ancestor(huge))))
    assert cut["truncated"]
    assert len(cut["versions"]) == 1
    assert told(Upstream((Ancestor(releases.version()),), truncated=True))["truncated"]


def bytes_of(made: Plan, path: str) -> bytes:
    source = made.files[path].source
    assert isinstance(source, bytes)
    return source
