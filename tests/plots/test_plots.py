"""What holds of every plot: bytes, names that are hostile, files, and what is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest
from PIL import Image

from registry import Registry, plots
from registry.errors import Conflict, UsageError
from registry.plots import Drawing, encode
from registry.plots._canvas import text
from registry.plots.lineage import figure
from tests.adapters import make_lora
from tests.cli import samples
from tests.plots import svg

ROOT = Path(__file__).parents[2]
EVIL = "<script>alert(1)</script>\x1b[2J\u202e\u200b $x^2$ &amp; ]]> 漢"


def drawn(word: str) -> Drawing:
    graph = samples.lineage(
        ref="top@1", nodes=(samples.node("top@1", expression=word, task=word, aliases=(word,)),), edges=()
    )
    return Drawing(figure(graph, word), "top@1", word)


@pytest.fixture
def filled(local: Registry, tmp_path: Path) -> Registry:
    for seed, name in enumerate("ab"):
        local.add(make_lora(tmp_path / name, seed=seed), name)
    local.compose("c", "a - 0.4*b")
    return local


@pytest.mark.parametrize("what", ["lineage", "conflict"])
@pytest.mark.parametrize("form", ["svg", "png", "html"])
def test_the_same_catalog_gives_the_same_bytes(
    filled: Registry, tmp_path: Path, what: str, form: str
) -> None:
    made = [filled.plot(what, "c", tmp_path / f"{i}.{form}") for i in (0, 1)]
    assert (tmp_path / f"0.{form}").read_bytes() == (tmp_path / f"1.{form}").read_bytes()
    assert {(each.what, each.subject, each.format) for each in made} == {(what, "c@1", form)}
    assert made[0].size == (tmp_path / f"0.{form}").stat().st_size


def test_bytes_depend_neither_on_the_day_nor_the_process_nor_the_users_settings(
    filled: Registry, tmp_path: Path
) -> None:
    filled.plot("conflict", "c", tmp_path / "here.svg")
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nsvg.fonttype: path\naxes.facecolor: red\n")
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "SOURCE_DATE_EPOCH": "1",
        "PYTHONHASHSEED": "7",
    }  # fmt: skip
    words = [sys.executable, "-m", "registry", "plot", "conflict", "c", "--out", str(tmp_path / "there.svg")]
    subprocess.run(words, env=environment, check=True, capture_output=True)
    assert (tmp_path / "there.svg").read_bytes() == (tmp_path / "here.svg").read_bytes()


def test_the_callers_settings_are_as_they_were(
    filled: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)  # another test may have loaded it
    with mpl.rc_context({"font.size": 33.0}):
        filled.plot("lineage", "c", tmp_path / "a.svg")
        assert mpl.rcParams["font.size"] == 33.0
    assert "matplotlib.pyplot" not in sys.modules


def test_a_png_has_the_size_of_its_content(filled: Registry, tmp_path: Path) -> None:
    page = tmp_path / "a.svg"
    filled.plot("lineage", "c", page)
    filled.plot("lineage", "c", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert image.format == "PNG"
        high, wide = (
            float(each) / 72 * 150 for each in svg.read(page.read_bytes()).attrib["viewBox"].split()[:1:-1]
        )
        assert abs(image.width - wide) <= 1
        assert abs(image.height - high) <= 1
        assert len(image.convert("RGB").getcolors(1 << 20) or ()) > 10


def test_names_are_texts_and_nothing_else() -> None:
    data = encode(drawn(EVIL), "svg")
    root = svg.read(data)
    assert not list(root.iter(f"{svg.SVG}script"))
    assert not {"\x1b", "\u202e", "\u200b"} & set(data.decode())
    said = " ".join(svg.texts(root))
    assert "<script>alert(1)</script>\\x1b[2J\\u202e\\u200b $x^2$ &amp; ]]> \\u6f22" in said


def test_a_page_holds_the_picture_and_no_script() -> None:
    page = encode(drawn(EVIL), "html").decode()
    assert page.count("<svg") == page.count("</svg>") == 1
    assert "<script" not in page
    assert (
        "http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\""
        in page
    )
    assert "<title>&lt;script&gt;alert(1)" in page
    assert "src=" not in page.replace("default-src=", "")
    assert "<?xml" not in page


def test_what_is_long_keeps_its_ends() -> None:
    assert text("a" * 30 + "b" * 30, most=11) == "aaaaaaa…bbb"
    assert text("x" * 10**6, most=20) == text("x" * 10**5, most=20)
    assert text("a@1", most=40) == "a@1"


@pytest.mark.parametrize("name", ["a.pdf", "a", "svg", "a.svgz", ".svg"])
def test_another_suffix_is_refused_before_anything_is_read(
    filled: Registry, tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="no picture that can be written") as caught:
        filled.plot("lineage", "nothing", tmp_path / name)
    assert caught.value.hint == "end it in .svg, .png or .html"


def test_a_file_is_replaced_only_when_that_is_said(filled: Registry, tmp_path: Path) -> None:
    file = tmp_path / "a.SVG"
    file.write_text("mine")
    with pytest.raises(Conflict, match="exists"):
        filled.plot("lineage", "c", file)
    assert file.read_text() == "mine"
    filled.plot("lineage", "c", file, replace=True)
    assert svg.texts(svg.read(file.read_bytes()))
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(Conflict, match="exists"):
        filled.plot("lineage", "c", tmp_path / "folder.svg", replace=True)
    assert {each.name for each in tmp_path.iterdir() if "partial" in each.name} == set()


def test_what_a_plot_does_not_take_is_said(filled: Registry, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the plot conflict takes no depth"):
        filled.plot("conflict", "c", tmp_path / "a.svg", depth=2)
    with pytest.raises(UsageError, match="the plot lineage takes no base path"):
        filled.plot("lineage", "c", tmp_path / "a.svg", base_path=tmp_path)
    with pytest.raises(UsageError, match="unknown plot 'pie'") as caught:
        filled.plot("pie", "c", tmp_path / "a.svg")
    assert caught.value.hint == "known are: conflict, lineage, sweep"


def test_without_the_extra_there_is_one_line(
    filled: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_canvas", *plots.family.names()):
        monkeypatch.delitem(sys.modules, f"registry.plots.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match="plots need matplotlib") as caught:
        filled.plot("lineage", "c", tmp_path / "a.svg")
    assert caught.value.hint == "pip install 'adapter-registry[plot]'"
    assert not (tmp_path / "a.svg").exists()


def test_listing_plots_and_other_commands_import_no_matplotlib() -> None:
    program = (
        "import sys, cli, registry.api, registry.plots, registry.verbs.check, registry.verbs.lookup\n"
        "import cli.plot, cli.lineage\nassert registry.plots.family.names()\nprint(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert not {"matplotlib", "PIL"} & set(done.stdout.split())
