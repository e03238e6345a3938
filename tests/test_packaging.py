"""The wheel: everything that is needed, under one name, working where there is no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS: dict[str, Any] = SETTINGS["tool"]["setuptools"]
SOURCES = ("registry", "cli", "migrations")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that neither an old build folder nor this test leaves traces."""
    return built(tmp_path_factory.mktemp("wheel"))


def built(folder: Path) -> Path:
    """The wheel, made in this folder as of a day in the past."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "alembic.ini"):
        if (ROOT / name).exists():
            shutil.copyfile(ROOT / name, source / name)
    if not (source / "README.md").exists():
        (source / "README.md").write_text("# adapter-registry\n")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    day = {**os.environ, "SOURCE_DATE_EPOCH": "1760000000"}
    done = subprocess.run(build, capture_output=True, text=True, check=False, env=day)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.glob("*.whl")
    return made


def test_the_same_sources_give_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    assert built(tmp_path).read_bytes() == wheel.read_bytes()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel in an environment of its own, which sees this one's other packages but not the checkout."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    dependencies = tmp_path_factory.mktemp("dependencies")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "adapter_registry" not in path.name and path.suffix != ".pth":
            (dependencies / path.name).symlink_to(path)
    (packages / "dependencies.pth").write_text(f"{dependencies}\n")
    return python


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def run(python: Path, *words: str, cwd: Path, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("REGISTRY_", "PYTHON"))
    }
    environment |= {"REGISTRY_HOME": str(home), "REGISTRY_ACTOR": "tester"}
    return subprocess.run(
        [python, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_the_list_of_packages_is_the_folders_that_hold_python() -> None:
    """A package that is forgotten works in the checkout and is missing from the wheel."""
    moved = {folder: package for package, folder in SETUPTOOLS["package-dir"].items()}
    found = set()
    for top in SOURCES:
        for file in (ROOT / top).rglob("*.py"):
            folder = file.parent.relative_to(ROOT).as_posix()
            found.add(moved.get(folder, folder.replace("/", ".")))
    assert set(SETUPTOOLS["packages"]) == found
    assert SETUPTOOLS["packages"] == sorted(SETUPTOOLS["packages"])


def test_the_wheel_owns_one_name(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in names(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"registry"}
    assert len(tops) == 2


def test_the_wheel_holds_every_module_and_every_file_that_is_read(wheel: Path) -> None:
    held = set(names(wheel))
    for top in SOURCES:
        for file in (ROOT / top).rglob("*"):
            inside = file.relative_to(ROOT).as_posix()
            inside = inside if top == "registry" else f"registry/{inside}"
            data = "demo/data/" in inside and file.is_file() and "__pycache__" not in inside
            if file.suffix in {".py", ".lark", ".typed", ".mako", ".jinja"} or data:
                assert inside in held
    assert {
        "registry/py.typed",
        "registry/expression.lark",
        "registry/filters.lark",
        "registry/publishers/card.md.jinja",
        "registry/cli/__init__.py",
    } <= held
    assert "registry/migrations/versions/0001_initial_schema.py" in held
    assert any(name.startswith("registry/demo/data/") for name in held)
    assert not any("tests" in name.split("/") or name.endswith(("alembic.ini", ".pyc")) for name in held)


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
        (scripts,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        assert "registry = registry.cli:main" in archive.read(scripts).decode()
    assert "Name: adapter-registry" in text
    assert "Requires-Python: >=3.11" in text
    assert "License-Expression: Apache-2.0" in text
    assert f"Version: {__import__('registry').__version__}" in text


def test_no_generic_name_can_be_imported(installed: Path, tmp_path: Path) -> None:
    for name in ("cli", "migrations", "tests", "examples", "benchmarks"):
        done = run(installed, "-c", f"import {name}", cwd=tmp_path, home=tmp_path)
        assert f"No module named '{name}'" in done.stderr
    done = run(installed, "-c", "import registry; print(registry.__file__)", cwd=tmp_path, home=tmp_path)
    assert not Path(done.stdout.strip()).is_relative_to(ROOT)


def test_outside_the_checkout_it_creates_uses_and_upgrades_a_catalog(installed: Path, tmp_path: Path) -> None:
    from tests.adapters import make_lora

    make_lora(tmp_path / "a")
    home = tmp_path / "home"

    def registry(*words: str) -> subprocess.CompletedProcess[str]:
        return run(installed, "-m", "registry", *words, cwd=tmp_path, home=home)

    assert registry("db", "current").stdout.strip() == "none"
    done = registry("db", "upgrade")
    assert (done.returncode, done.stderr) == (0, "")
    assert registry("add", "a", "toxic", "--format", "quiet").stdout.strip() == "toxic@1"
    assert registry("compose", "c", "-0.4*toxic", "--format", "quiet").stdout.strip() == "c@1"
    assert registry("list", "--format", "quiet").stdout.split() == ["c@1", "toxic@1"]
    assert registry("verify", "--rebuild").returncode == 0
    assert registry("db", "upgrade").returncode == 0
    assert registry("db", "check").returncode == 0


def test_a_catalog_is_created_by_its_first_use_too(installed: Path, tmp_path: Path) -> None:
    done = run(installed, "-m", "registry", "list", "--format", "json", cwd=Path("/"), home=tmp_path / "home")
    assert (done.returncode, (tmp_path / "home" / "registry.db").exists()) == (0, True)
