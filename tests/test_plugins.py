"""A plug-in is a file: what holds for every member of every family."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from registry import blobs, kinds, methods, plots
from registry.errors import Refused
from registry.plugins import Family

FAMILIES: dict[str, Family[Any]] = {
    "blobs": blobs.family,
    "kinds": kinds.family,
    "methods": methods.family,
    "plots": plots.family,
}
MEMBERS = [(family, name) for family, found in FAMILIES.items() for name in found.names()]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_public_file_of_the_package_is_a_member(family: str) -> None:
    spec = find_spec(f"registry.{family}")
    assert spec is not None
    assert spec.origin is not None
    files = {file.stem for file in Path(spec.origin).parent.glob("*.py") if not file.name.startswith("_")}
    assert set(FAMILIES[family].names()) == files
    assert files


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_a_member_has_a_docstring_of_its_own_and_is_the_same_each_time(family: str, name: str) -> None:
    member = FAMILIES[family].load(name)
    assert member.__module__ == f"registry.{family}.{name}"
    assert member.__doc__
    assert FAMILIES[family].load(name) is member


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["", "nosuch", "_core", "__init__", "..", "os", "a.b", "lora/../lora"])
def test_an_unknown_member_is_refused_with_the_known_ones(family: str, name: str) -> None:
    with pytest.raises(Refused) as caught:
        FAMILIES[family].load(name)
    assert repr(name) in caught.value.message
    assert all(known in str(caught.value.hint) for known in FAMILIES[family].names())
    assert caught.value.exit_code == 7


def test_a_new_file_is_a_new_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "zoo"
    package.mkdir()
    (package / "__init__.py").write_text("class Animal: ...\n")
    (package / "cat.py").write_text("from zoo import Animal\nclass Cat(Animal): ...\n")
    (package / "_helper.py").write_text("raise ImportError('helpers are not members')\n")
    (package / "twins.py").write_text("from zoo import Animal\nclass A(Animal): ...\nclass B(Animal): ...\n")
    (package / "empty.py").write_text("from zoo.cat import Cat\n")
    monkeypatch.syspath_prepend(tmp_path)
    import zoo  # type: ignore[import-not-found]

    family: Family[Any] = Family(zoo.Animal, "animal")
    assert family.names() == ["cat", "empty", "twins"]
    assert family.load("cat").__name__ == "Cat"
    for wrong in ("twins", "empty"):
        with pytest.raises(TypeError, match="exactly one Animal"):
            family.load(wrong)


@pytest.mark.parametrize("family", FAMILIES)
def test_listing_a_family_loads_none_of_it(family: str) -> None:
    program = (
        f"import sys; from registry import {family}; names = {family}.family.names(); "
        f"print(names, 'torch' in sys.modules, [n for n in names if 'registry.{family}.' + n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout.strip() == f"{FAMILIES[family].names()} False []"
