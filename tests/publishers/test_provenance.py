"""The provenance statement."""

from __future__ import annotations

import json
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


def bytes_of(made: Plan, path: str) -> bytes:
    source = made.files[path].source
    assert isinstance(source, bytes)
    return source
