"""docs/sweeps.md, docs/similar.md and docs/plots.md: their commands run as written, and print what the pages show."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from cli import root
from registry import Registry
from tests.adapters import make_lora
from tests.plots import svg

ROOT = Path(__file__).parents[1]
PROMPT = "$ "
EVAL = """
import json, sys
w = float(sys.argv[2]) if len(sys.argv) > 2 else 0.25
print(json.dumps({"toxicity": round((w - 0.3) ** 2 + 0.01, 6), "ppl": 20 + 3 * w}))
"""
"""What the user's own command is in docs/sweeps.md: its figures are those of the page."""


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks(name: str, language: str = "") -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL)
    return [block for each, block in found if each == language]


def run(line: str) -> Result:
    words = shlex.split(line)
    assert words[0] == "registry", line
    return CliRunner().invoke(root, words[1:])


def commands(block: str) -> list[str]:
    """The lines of a block without a prompt, each with those that it goes on in."""
    return block.replace("\\\n", " ").strip().splitlines()


@pytest.fixture
def place(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that somebody works in, with an empty catalog."""
    assert sqlite_url
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    return tmp_path


def test_what_is_similar_is_as_the_page_shows_it(place: Path) -> None:
    extra = {"base_model.model.lm_head.weight": torch.ones(5, 8)}
    head = {"modules_to_save": ["lm_head"]}
    with Registry.open() as catalog:
        for seed, name in enumerate("ab"):
            catalog.add(make_lora(place / name, seed=seed), name)
        catalog.add(make_lora(place / "w", seed=2, config=head, extra=extra), "w")
        for name, expression in (("h", "0.5*a"), ("f", "1*a"), ("s", "a + 0.1*b"), ("n", "-a")):
            catalog.compose(name, expression)
    (shown,) = (block for block in blocks("similar.md") if block.startswith(PROMPT))
    for each in shown.removeprefix(PROMPT).split(f"\n{PROMPT}"):
        line, _, expected = each.partition("\n")
        done = run(line)
        assert (done.exit_code, done.stdout.strip()) == (0, expected.strip()), line


def test_a_sweep_prints_what_the_page_shows_and_its_other_examples_run(place: Path) -> None:
    (place / "eval.py").write_text(EVAL)
    with Registry.open() as catalog:
        for seed, name in enumerate(("alpaca", "toxic")):
            catalog.add(make_lora(place / name, seed=seed), name)
    first, *others = blocks("sweeps.md", "sh")
    (line,) = commands(first)
    done = run(line)
    assert (done.exit_code, done.stdout) == (0, blocks("sweeps.md", "text")[0])
    for line in (line for block in others[1:] for line in commands(block)):
        assert run(line).exit_code == 0, line
    _, example = blocks("sweeps.md", "python")
    known = {"evaluate_my_model": lambda path: len([*Path(path).iterdir()])}
    exec(compile(example, "sweeps.md", "exec"), known)  # noqa: S102  (our own page)


def test_the_sweep_that_runs_in_a_checkout_finds_what_the_page_shows(place: Path) -> None:
    """With the page's own evaluation: PEFT and transformers, on texts that are kept here."""
    (place / "examples").symlink_to(ROOT / "examples")
    (place / "eval.py").write_text(blocks("sweeps.md", "python")[0])
    *added, line = commands(blocks("sweeps.md", "sh")[1])
    for each in added:
        assert run(each).exit_code == 0, each
    done = run(line)
    assert done.exit_code == 0, done.stderr
    shown = blocks("sweeps.md", "text")[1]
    number = re.compile(r"\d+(\.\d+)?")
    assert number.sub("", done.stdout).split() == number.sub("", shown).split()
    figures = [[float(each[0]) for each in number.finditer(text)] for text in (done.stdout, shown)]
    assert figures[0] == pytest.approx(figures[1], abs=0.11), "another processor rounds otherwise"


def test_the_pictures_are_what_the_commands_beside_them_draw(place: Path) -> None:
    """Their words; colours are compared with dense matrices elsewhere."""
    (place / "registry").symlink_to(ROOT / "registry")
    (block,) = (each for each in blocks("plots.md") if each.startswith("registry add"))
    for line in commands(block):
        assert run(line).exit_code == 0, line
    for name in ("lineage.svg", "conflict.svg"):
        assert f"(images/{name})" in page("plots.md")
        drawn, kept = (
            svg.read(file.read_bytes()) for file in (place / name, ROOT / "docs" / "images" / name)
        )
        assert svg.texts(drawn) == svg.texts(kept)
    assert "mean 0.129" in " ".join(svg.texts(drawn)), "of gloomy and sunny, as the text says"


def test_what_needs_another_extra_parses(place: Path) -> None:
    (block,) = (each for each in blocks("plots.md") if each.startswith("registry sweep"))
    swept, drawn = commands(block)
    done = run(f"{swept} --dry-run")
    assert "there is no adapter called 'balanced'" in done.stderr, "and nothing else is wrong"
    assert "there is no adapter called 'both'" in run(drawn).stderr
    assert list(place.glob("*.svg")) == []
