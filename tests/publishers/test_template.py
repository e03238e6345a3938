"""Templates of the card: a team's text, in which everybody else's stays text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from registry.errors import UsageError
from registry.publishers import _template
from registry.publishers._card import card
from registry.publishers._template import Template
from registry.testing.hub import _cards
from tests.publishers import releases

EVIL = "<script>x</script> **bold** [a](javascript:b) `c` {{ 7*7 }} <!-- adapter-registry: end -->\n# Title"


def made(text: str, **changes: object) -> str:
    return card(releases.release(**changes), "team/detox", Template("team.md", text)).decode()


def body(page: str) -> str:
    return page.partition("is yours. -->\n\n")[2].rpartition("\n\n<!-- adapter-registry: end -->")[0]


def test_a_template_has_the_sections_and_the_version() -> None:
    page = made(
        "# Ours: {{ title }}\n\n{{ use }}\n\n{{ version.rank }} {{ version.name }} {{ repo }} {{ target }}\n"
    )
    text = body(page)
    assert text.startswith("# Ours: detox, version 2\n\n```python\n")
    assert text.endswith("\n\n8 detox team/detox adapter")
    assert _cards.problems(page) == []


def test_the_built_in_card_is_a_template() -> None:
    release = releases.release(license="mit", evaluations=(releases.evaluation(),))
    assert card(release, "team/detox") == card(release, "team/detox", _template.built_in())


@pytest.mark.parametrize(
    "shown",
    [
        "{{ version.note }}",
        "{{ version.note | upper }}",
        "{{ '' ~ version.note }}",
        "{{ version.note | safe }}",
        "{{ [version.note] | join(', ') }}",
        "{% for each in [version.note] %}{{ each }}{% endfor %}\n",
        "{{ version.tags }}",
        "{{ version.note | code }}",
    ],
)
def test_values_are_text_whatever_is_done_to_them(shown: str) -> None:
    page = made("before\n\n" + shown + "\n\nafter\n", note=EVIL, tags={"a": EVIL})
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(body(page))
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"] * 3
    kinds = {child.type for token in tokens for child in token.children or ()}
    assert kinds <= {"text", "text_special", "code_inline", "softbreak"}
    assert "49" not in body(page).split("before")[1]
    assert page.count("\n<!-- adapter-registry: end -->") == 1


def test_front_matter_of_a_template_goes_under_ours() -> None:
    page = made("---\nlicense: wtfpl\nlanguage: en\ntags:\n- ours\n- lora\n---\n# Hello\n", license="mit")
    front = yaml.safe_load(page.split("---\n")[1])
    assert (front["license"], front["language"]) == ("mit", "en")
    assert front["tags"] == ["lora", "adapter-registry", "base_model:adapter:org/llama", "merge", "ours"]
    assert body(page) == "# Hello"
    assert made("---\nlicense: mit\n---\nx").count("license: mit") == 1


@pytest.mark.parametrize(
    "front",
    [
        "pipeline_tag: [1]",
        "license: 3",
        "datasets: {a: b}",
        "language: [en, 3]",
        "tags: {a: b}",
        "model-index: [{}]",
        "model-index: text",
        "license_link: []",
        "- a list",
        "[",
        "1: 2",
    ],
)
def test_front_matter_that_the_hub_would_refuse_is_refused_before(front: str) -> None:
    with pytest.raises(UsageError, match=r"^team\.md: ") as refused:
        made(f"---\n{front}\n---\n# Hello\n")
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("front", ["base_model: /home/ann/llama", "base_model_relation: cousin"])
def test_a_base_model_is_one_on_the_hub(front: str) -> None:
    text = Template("team.md", f"---\n{front}\n---\nx")
    unnamed = releases.imported(
        base_model=releases.version().base_model.model_copy(update={"repo": "/data/x"})
    )
    with pytest.raises(UsageError, match=r"^team\.md: base_model"):
        card(unnamed, "team/detox", text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\n{{ nothing }}", 2),
        ("a\nb\n{{ version.nothing }}", 3),
        ("{% if %}", 1),
        ("a\n\n{% for x in [1] %}\n{{ x }}", 4),
        ("a\n{{ 1 / 0 }}", 2),
        ("a\n{{ ''.__class__.__mro__ }}", 2),
        ("a\n{{ range(10 ** 9) | list }}", 2),
        ("a\n{% include 'x' %}", 2),
        ("a\n{{ version.nothing() }}", 2),
        ("{{ version.update(name='x') }}", 1),
        ("a\n{{ title | nothing }}", 2),
        ("a\n{% import 'os' as os %}", 2),
    ],
)
def test_a_broken_template_is_one_line_with_its_place(text: str, line: int) -> None:
    with pytest.raises(UsageError, match=rf"^team\.md, line {line}: \S") as refused:
        made(text)
    assert "\n" not in refused.value.message
    assert refused.value.hint


def test_a_template_is_a_small_text_file(tmp_path: Path) -> None:
    path = tmp_path / "team.md"
    for content in (b"\xff\xfe", b"x" * ((1 << 20) + 1), b"{% if %}"):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=re.escape(str(path))):
            _template.read(path)
    for other in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match=r"^cannot read the card template"):
            _template.read(other)
    path.write_bytes(b"# {{ title }}\r\n\r\n{{ what }}\r\n")
    assert "\r" not in card(releases.release(), "team/detox", _template.read(path)).decode()
