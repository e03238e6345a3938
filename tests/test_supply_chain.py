"""What is depended on: pinned, under licenses that were agreed to, and told in a bill of materials."""

from __future__ import annotations

import importlib.metadata
import json
import re
from datetime import date
from pathlib import Path

import pytest

from tools import supply_chain
from tools.supply_chain import RUNTIME, Finding, Package

PINS = {"click": "8.5.1", "torch": "2.13.0", "flask": "3.1.3"}


@pytest.fixture(scope="module")
def packages() -> dict[str, Package]:
    return supply_chain.closure(RUNTIME)


def test_everything_that_users_install_is_pinned_to_what_is_tested_here(packages: dict[str, Package]) -> None:
    wrong = supply_chain.constraints(packages)
    assert [each for each in wrong if "nothing needs it" not in each] == []
    assert {"torch", "sqlalchemy", "mako", "psycopg-binary", "botocore"} <= packages.keys()
    assert "mergekit" not in packages


def test_the_cuda_libraries_of_torch_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come with PyPI's torch for Linux, and not with one for the CPU."""
    real = importlib.metadata.requires
    wheel = ["nvidia-cublas==13.1.1", "nvidia_nccl_cu13==2.29.7", "cuda-bindings<14", "triton==3.7.1"]
    monkeypatch.setattr(
        importlib.metadata, "requires",
        lambda name: [*(real(name) or ()), *(wheel if name == "torch" else ())],
    )  # fmt: skip
    found = supply_chain.closure(RUNTIME)
    assert "torch" in found
    assert not [name for name in found if supply_chain.OF_TORCH.fullmatch(name)]
    assert "sympy" in found["torch"].needs


def test_a_pin_that_is_missing_or_wrong_is_told(
    packages: dict[str, Package], monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = supply_chain.pins()
    del pins["mako"]
    pins |= {"click": "0.1", "leftpad": "1.0"}
    monkeypatch.setattr(supply_chain, "pins", lambda: pins)
    told = supply_chain.constraints(packages)
    assert "mako is not pinned" in told
    assert "leftpad is pinned, and nothing needs it" in told
    assert any(each.startswith("click is pinned to 0.1, and ") for each in told)


def test_every_license_is_one_that_was_agreed_to(packages: dict[str, Package]) -> None:
    assert supply_chain.licenses(packages) == []


@pytest.mark.parametrize(
    ("name", "expression", "allowed"),
    [
        ("a", "MIT", True),
        ("a", "Apache-2.0 OR GPL-3.0-only", True),
        ("a", "Apache-2.0 AND GPL-3.0-only", False),
        ("a", "MPL-2.0 AND (MIT)", True),
        ("a", "LGPL-3.0-only", False),
        ("psycopg", "LGPL-3.0-only", True),
        ("a", "Proprietary", False),
        ("a", None, False),
    ],
)
def test_licenses_that_nobody_agreed_to_are_told(name: str, expression: str | None, allowed: bool) -> None:
    assert (supply_chain.licenses({name: Package(name, "1", expression)}) == []) is allowed


def test_a_vulnerability_that_is_mended_in_what_users_install_is_wrong_and_all_else_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    findings = [
        Finding("torch", "2.13.0", "PYSEC-1", ("2.13.1",)),
        Finding("torch", "2.13.0", "PYSEC-2", ()),
        Finding("torch", "2.13.0", "PYSEC-3", ("3",)),
        Finding("torch", "2.13.0", "PYSEC-4", ("3",)),
        Finding("flask", "3.1.3", "PYSEC-5", ("3.2",)),
    ]
    tolerated = {
        "PYSEC-3": ("nothing here calls it", date(2026, 12, 1)),
        "PYSEC-4": ("it was to be mended by now", date(2026, 10, 1)),
    }
    monkeypatch.setattr(supply_chain, "TOLERATED", tolerated)
    monkeypatch.setattr(supply_chain, "_by_pip_audit", lambda _: (findings, {"torch", "flask"}))
    monkeypatch.setattr(supply_chain, "_by_newest", lambda _: ([], set()))
    wrong, known = supply_chain.audit(PINS, {"torch", "click"}, date(2026, 11, 1))
    assert wrong == [
        "torch 2.13.0: PYSEC-1, mended in 2.13.1",
        "torch 2.13.0: PYSEC-4, mended in 3",
    ]
    assert known == [
        "flask 3.1.3: PYSEC-5, mended in 3.2",
        "torch 2.13.0: PYSEC-2, not mended yet",
        "torch 2.13.0: PYSEC-3, mended in 3 (nothing here calls it)",
        "of 3 packages 1 could not be asked about",
    ]


def test_an_index_that_is_out_of_reach_is_told_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply_chain, "_by_pip_audit", lambda _: ([], set()))
    monkeypatch.setattr(supply_chain, "_PYPI", "http://127.0.0.1:1/{name}")
    assert supply_chain.audit(PINS, PINS, date.today()) == ([], ["of 3 packages 3 could not be asked about"])  # noqa: DTZ011


def test_the_bill_of_materials_has_every_dependency_with_its_version_and_license(
    packages: dict[str, Package], tmp_path: Path
) -> None:
    assert supply_chain.main(["sbom", str(tmp_path / "sbom.json")]) == 0
    made = json.loads((tmp_path / "sbom.json").read_text())
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
    assert {each["name"]: each["version"] for each in made["components"]} == {
        name: package.version for name, package in packages.items()
    }
    for each in made["components"]:
        assert each["purl"] == f"pkg:pypi/{each['name']}@{each['version']}"
        assert each["licenses"][0]["expression"]
    known = {each["bom-ref"] for each in made["components"]} | {made["metadata"]["component"]["bom-ref"]}
    for each in made["dependencies"]:
        assert {each["ref"], *each["dependsOn"]} <= known
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", made["serialNumber"])
    again = supply_chain.sbom(packages, "1")
    assert again == supply_chain.sbom(supply_chain.closure(RUNTIME), "1")


def test_constraints_can_be_written_anew(packages: dict[str, Package]) -> None:
    text = supply_chain.refreshed(packages)
    comments = [line for line in supply_chain.CONSTRAINTS.read_text().splitlines() if line.startswith("#")]
    assert text.splitlines()[: len(comments)] == comments
    assert f"click=={packages['click'].version}" in text.splitlines()
    names = [line.partition("==")[0] for line in text.splitlines()[len(comments) :]]
    assert names == sorted(packages)
