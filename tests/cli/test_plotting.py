"""plot: what is passed on, what is said, and a real picture."""

from __future__ import annotations

import json
from pathlib import Path

from registry.results import Plotted
from tests.adapters import make_lora
from tests.cli.conftest import FakeRegistry, Run


def plotted(notes: tuple[str, ...] = ()) -> Plotted:
    return Plotted(path="c.svg", what="conflict", subject="c@1", format="svg", size=1234, notes=notes)


def test_options_are_passed_on(fake: FakeRegistry, run: Run) -> None:
    fake.answers["plot"] = plotted()
    assert run("plot", "lineage", "c", "--out", "c.svg").exit_code == 0
    assert {**fake.asked} == {
        "what": "lineage", "subject": "c", "out": "c.svg", "replace": False, "direction": None, "depth": None, "base_path": None,
    }  # fmt: skip
    words = ("--down", "--depth", "2", "--force", "--base-path", "base")
    assert run("plot", "conflict", "-a + b", "--out", "c.svg", *words).exit_code == 0
    assert {**fake.asked} == {
        "what": "conflict", "subject": "-a + b", "out": "c.svg", "replace": True, "direction": "down", "depth": 2, "base_path": "base",
    }  # fmt: skip


def test_what_was_drawn_is_said(fake: FakeRegistry, run: Run) -> None:
    fake.answers["plot"] = plotted(("of 10 pairs these 6",))
    done = run("plot", "conflict", "c", "--out", "c.svg")
    assert done.stdout == "drew conflict of c@1 to c.svg, 1.2 kB\n"
    assert done.stderr == "of 10 pairs these 6\n"
    assert run("plot", "conflict", "c", "--out", "c.svg", "--format", "quiet").stdout == "c.svg\n"
    fake.answers["plot"] = plotted().model_copy(update={"what": "sweep", "subject": "sweep 3 of c"})
    assert run("plot", "sweep", "c", "--out", "c.svg").stdout == "drew sweep 3 of c to c.svg, 1.2 kB\n"
    fake.answers["plot"] = plotted(("of 10 pairs these 6",))
    assert (
        json.loads(run("plot", "conflict", "c", "--out", "c.svg", "--format", "json").stdout)["size"] == 1234
    )


def test_a_picture_is_drawn_and_not_over_another(run: Run, sqlite_url: str, tmp_path: Path) -> None:
    assert sqlite_url
    for seed, name in enumerate("ab"):
        assert run("add", str(make_lora(tmp_path / name, seed=seed)), name).exit_code == 0
    assert run("compose", "c", "a - 0.4*b").exit_code == 0
    for what in ("lineage", "conflict"):
        file = tmp_path / f"{what}.svg"
        assert run("plot", what, "c", "--out", str(file)).exit_code == 0
        again = run("plot", what, "c", "--out", str(file))
        assert again.exit_code == 4
        assert "--force" in again.stderr
        assert run("plot", what, "c", "--out", str(file), "--force").exit_code == 0
    for words, code, said in (
        (("pie", "c", "--out", "a.svg"), 2, "unknown plot 'pie'"),
        (("lineage", "c", "--out", "a.gif"), 2, "no picture that can be written"),
        (("lineage", "nobody", "--out", "a.svg"), 3, "nobody"),
        (("conflict", "a", "--out", "a.svg"), 2, "was not composed"),
    ):
        done = run("plot", *words)
        assert done.exit_code == code, done.stderr
        assert said in done.stderr
