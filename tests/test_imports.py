"""Imports point one way, and looking things up pays for nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from registry import Registry
from tests.adapters import make_lora

ROOT = Path(__file__).parents[1]


def test_the_contracts_between_the_rooms_hold(tmp_path: Path) -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint_imports, "--cache-dir", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def imported_by(words: list[str], home: Path) -> set[str]:
    program = (
        "import sys\nfrom cli import main\nsys.argv[:] = ['registry', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_")}
    environment |= {"REGISTRY_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=environment, capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


def test_a_listing_imports_what_it_uses(sqlite_url: str, tmp_path: Path) -> None:
    assert sqlite_url.endswith("home/registry.db")
    for words in (["list"], ["list", "--format", "json"], ["alias", "list", "--format", "quiet"]):
        found = imported_by(words, tmp_path / "home")
        assert {"registry", "sqlalchemy"} <= found
        assert not found & {
            "torch",
            "alembic",
            "huggingface_hub",
            "transformers",
            "peft",
            "numpy",
            "lark",
            "psycopg",
        }


def test_a_sweep_that_is_known_imports_nothing_that_computes_or_searches(
    local: Registry, tmp_path: Path
) -> None:
    for seed, name in enumerate("ab"):
        local.add(make_lora(tmp_path / name, seed=seed), name)
    run = """sh -c 'echo "{\\"loss\\": $1}"' sh {w} {path}"""
    done = local.sweep("best", "a - {w}*b", over={"w": "0,0.5,1"}, run=run, metric="loss", minimize=True)
    assert done.failed == 0
    words = [
        "sweep",
        "best",
        "a - {w}*b",
        "--over",
        "w=0,0.5,1",
        "--run",
        run,
        "--metric",
        "loss",
        "--minimize",
    ]
    found = imported_by(words, tmp_path / "home")
    assert "registry.verbs.sweep" in found
    assert not found & {"torch", "optuna", "numpy", "alembic", "huggingface_hub", "transformers", "peft"}
    assert len(local.log("best")) == 1


def test_importing_the_package_costs_next_to_nothing() -> None:
    program = "import sys, registry; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & {"torch", "alembic", "huggingface_hub", "sqlalchemy", "click"}
