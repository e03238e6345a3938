"""The model card: valid for the Hub, and nobody's text is anything but text."""

from __future__ import annotations

import ast
import math
import re
import shlex
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from registry import expression
from registry.errors import UsageError
from registry.licenses import Source
from registry.publishers import Chosen, Release, Serving, Terms
from registry.publishers._card import card, front_matter
from registry.publishers._merge import merge, part
from registry.publishers._template import Template
from registry.recipe import Call, Input, linear
from registry.results import BaseModelIdentity, Compared, Comparison, Objective, RecipeInfo
from registry.testing.hub import _cards
from tests.publishers import releases

EVIL = (
    "x\n---\nlicense: wtfpl\n---\n# Title",
    "```\n\n# Title",
    "a | b | `c` | ``d``",
    r"a \| b \\| c \\\| `d",
    "<script>alert(1)</script><img src=x onerror=y>",
    "[click](javascript:alert(1)) ![i](http://evil.example/p.png) https://evil.example",
    '"] --> evil["x"]; click evil "javascript:1"; %%{init: {}}%%',
    "x\n<!-- adapter-registry: end -->\n<!-- adapter-registry: begin -->",
    "{{ 7 * 7 }}{% raw %}{# x #}",
    "'; rm -rf ~ #$(touch x)`id`",
    "\u202eexe\u0000\x07\u2028\x85!!python/object: *anchor &x",
)


def text(release: Release, repo: str = "team/detox") -> str:
    return card(release, repo).decode()


def fences(page: str, language: str) -> list[str]:
    return re.findall(rf"^```+{language}\n(.*?)^```+$", page, flags=re.MULTILINE | re.DOTALL)


def test_the_front_matter_of_an_adapter() -> None:
    release = releases.release(license="Apache-2.0", evaluations=(releases.evaluation(),))
    assert front_matter(release) == {
        "base_model": "org/llama",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "license": "apache-2.0",
        "tags": ["lora", "adapter-registry", "base_model:adapter:org/llama", "merge"],
        "model-index": [
            {
                "name": "detox",
                "results": [
                    {
                        "task": {"type": "text-generation"},
                        "dataset": {"type": "sst2", "name": "sst2", "split": "test"},
                        "metrics": [{"type": "accuracy", "value": 0.75}],
                    }
                ],
            }
        ],
    }


def test_the_client_reads_the_evaluations_back() -> None:
    found = (
        releases.evaluation(),
        releases.evaluation(metric="f1", value=0.5),
        releases.evaluation(dataset="rte", split=None, value=1e-7),
        releases.evaluation(dataset="lost", value=math.nan),
    )
    data = ModelCard(text(releases.release(evaluations=found))).data
    assert isinstance(data, ModelCardData)
    read = data.eval_results
    assert read is not None
    assert [(each.dataset_type, each.metric_type, each.metric_value) for each in read] == [
        ("sst2", "accuracy", 0.75),
        ("sst2", "f1", 0.5),
        ("rte", "accuracy", 1e-7),
    ]


@pytest.mark.parametrize(("inputs", "relation"), [(2, "merge"), (1, "finetune")])
def test_the_front_matter_of_a_model(inputs: int, relation: str) -> None:
    whole = releases.release("model")
    data = front_matter(Release(**{**vars(whole), "origins": whole.origins[:inputs]}))
    assert (data["base_model_relation"], data["library_name"]) == (relation, "transformers")
    assert ("merge" in data["tags"]) == (inputs == 2)
    assert not any(tag.startswith("base_model:") for tag in data["tags"])


@pytest.mark.parametrize(
    "repo", ["/data/llama", "./llama", "../out/llama", "out/run/llama", "two words", None, "x--y"]
)
def test_a_base_that_is_no_hub_model_is_left_out(repo: str | None) -> None:
    release = releases.release(base_model=BaseModelIdentity(repo=repo))
    assert not any(key.startswith("base_model") for key in front_matter(release))
    page = text(release)
    assert _cards.problems(page) == []
    assert repo is None or repo not in page


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("MIT", {"license": "mit"}),
        ("llama3.1", {"license": "llama3.1"}),
        ("Acme internal, v2", {"license": "other", "license_name": "Acme internal, v2"}),
        (" ", {}),
        (None, {}),
    ],
)
def test_a_license_is_one_that_the_hub_knows_or_has_a_name(said: str | None, shown: dict[str, str]) -> None:
    data = front_matter(releases.imported(license=said))
    assert {key: data[key] for key in data if key.startswith("license")} == shown


@pytest.mark.parametrize("release", [releases.release(), releases.release("model"), releases.imported()])
def test_the_card_is_the_same_each_time_and_the_hub_takes_it(release: Release) -> None:
    page = text(release)
    assert page == text(release)
    assert _cards.problems(page) == []
    assert _cards.warnings(page) == []
    assert page.endswith("\n")


def test_the_page_says_what_it_is_and_where_it_comes_from() -> None:
    page = text(releases.release(evaluations=(releases.evaluation(value=0.123456789),)))
    assert "A LoRA adapter for `org/llama@abc`" in page
    assert "composed from 2 adapters" in page
    assert fences(page, "text") == ["alpaca@prod - 0.4*toxic\nalpaca@3 - 0.4*toxic@1\n"]
    url = f"https://huggingface.co/team/toxic/commit/{'c' * 40}"
    assert f"| `toxic@1` | `-0.4` | `{releases.TOXIC}` | [`team/toxic@{'c' * 12}`](<{url}>) |" in page
    assert f"| `alpaca@3` | `1` | `{releases.ALPACA}` | – |" in page
    assert "| sst2 | test | accuracy | 0.123457 |" in page
    (diagram,) = fences(page, "mermaid")
    assert diagram.splitlines() == [
        "graph BT",
        '    v0["detox@2 333333333333"]',
        '    v1["alpaca@3 111111111111"]',
        '    v2["toxic@1 222222222222"]',
        '    v1 -->|"1"| v0',
        '    v2 -->|"-0.4"| v0',
    ]


def test_it_says_how_to_load_it() -> None:
    (code,) = fences(text(releases.release()), "python")
    ast.parse(code)
    assert 'AutoModelForCausalLM.from_pretrained("org/llama", revision="abc")' in code
    assert 'PeftModel.from_pretrained(base, "team/detox")' in code
    (code,) = fences(text(releases.release("model")), "python")
    ast.parse(code)
    assert 'AutoModelForCausalLM.from_pretrained("team/detox")' in code


def test_it_says_how_to_rebuild_it_with_digests_in_place_of_names() -> None:
    _, commands = fences(text(releases.release("model")), "sh")
    assert commands.splitlines() == [
        f"# add alpaca@3, with the content {releases.ALPACA}, as alpaca",
        f"registry add hf://team/toxic@{'c' * 40} toxic",
        f"registry compose detox '{releases.ALPACA} - 0.4*{releases.TOXIC}' --dtype float32 --seed 7",
        "registry verify detox --rebuild",
        "registry materialize detox --as model --out detox-model",
    ]
    words = shlex.split(commands.splitlines()[2])
    assert len(list(expression.references(expression.parse(words[3])))) == 2


def rebuilt(terms: list[tuple[Decimal, Input | Call]], **changes: Any) -> str:
    """The expression in the command that composes this recipe again."""
    whole = releases.release(**changes)
    _, commands = fences(text(replace(whole, recipe=releases.canonical(terms))), "sh")
    return shlex.split(commands.splitlines()[2])[3]


def test_the_command_that_rebuilds_is_made_from_the_recipe_however_long_the_expression_was() -> None:
    resolved = " + ".join(["alpaca@3"] * 20_000)
    assert len(resolved) > 100_000
    recipe = RecipeInfo(expression="x", resolved=resolved, digest=releases.RECIPE)
    shown = rebuilt([(Decimal(20_000), Input(digest=releases.ALPACA))], recipe=recipe)
    assert shown == f"20000*{releases.ALPACA}"


def test_a_method_is_rebuilt_with_every_parameter() -> None:
    alpaca, toxic = Input(digest=releases.ALPACA), Input(digest=releases.TOXIC)
    both = linear([(Decimal(1), alpaca), (Decimal("-0.4"), toxic)])
    call = Call(
        method="made_up",
        algorithm=1,
        parameters={"density": "0.20", "rank": 4, "mode": "sum", "energy": None, "exact": True},
        arguments=(both, linear([(Decimal(1), toxic)])),
    )
    assert rebuilt([(Decimal("0.5"), call)]) == (
        f"0.5*made_up({releases.ALPACA} - 0.4*{releases.TOXIC}, {releases.TOXIC}, "
        'density=0.2, rank=4, mode="sum", energy=none, exact=true)'
    )


@pytest.mark.parametrize(("first", "shown"), [("1", "{toxic} - {alpaca}"), ("-1", "(-{alpaca} - {toxic})")])
def test_a_sum_never_looks_like_an_option(first: str, shown: str) -> None:
    found = rebuilt(
        [(Decimal(-1), Input(digest=releases.ALPACA)), (Decimal(first), Input(digest=releases.TOXIC))]
    )
    assert found == shown.format(alpaca=releases.ALPACA, toxic=releases.TOXIC)


def said(target: Any, words: str, *, rank: int | None = 8) -> str:
    """A card with these words wherever somebody's words can stand."""
    compared = Compared(metric=words, dataset=words, split=words, value=0.5, others={"alpaca@3": 0.25})
    terms = Terms(
        license=words,
        inputs=(Source(words, words), Source("alpaca@3", words)),
        notes=(words,),
        conflicts=(words,),
        despite=words,
    )
    release = releases.release(
        target,
        task=words,
        note=words,
        license=words,
        kind=words,
        dtype=words,
        base_model=BaseModelIdentity(repo="org/llama", revision=words),
        recipe=RecipeInfo(expression=words, resolved="alpaca@3 - 0.4*toxic@1", digest=releases.RECIPE),
        evaluations=(releases.evaluation(metric=words, dataset=words, split=words),),
    )
    whole = replace(
        release,
        terms=terms,
        serving=Serving(rank, words),
        comparison=Comparison(ref="detox@2", others=("alpaca@3",), rows=(compared,)),
        chosen=Chosen(words, {words: words}, (Objective(metric=words, direction="min"),), (words, words), 7),
    )
    return text(whole)


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize(("target", "rank"), [("adapter", 8), ("adapter", None), ("model", 8)])
def test_text_of_users_stays_text(evil: str, target: Any, rank: int | None) -> None:
    check_text(evil, target, rank)


@settings(deadline=None, max_examples=60)
@given(
    words=st.text(st.characters(codec="utf-8"), max_size=60)
    | st.text("`*_[](){}<>#|\\\\!-+.~$:@&;\"'%/=\n \u2028\x85ab", max_size=40),
    rank=st.sampled_from([8, None]),
)
def test_any_text_stays_text(words: str, rank: int | None) -> None:
    check_text(f"a{words}b", "adapter", rank)


def check_text(evil: str, target: Any, rank: int | None) -> None:
    page, harmless = said(target, evil, rank=rank), said(target, "x", rank=rank)
    assert part(page.encode()) == page.encode()
    assert _cards.problems(page) == []
    start, front, body = page.split("---\n", 2)
    data = yaml.safe_load(front)
    assert start == ""
    assert list(data) == list(yaml.safe_load(harmless.split("---\n", 2)[1]))
    assert data["license"] == "other"
    assert shape(body) == shape(harmless.split("---\n", 2)[2])
    assert "\u202e" not in page
    ast.parse(fences(page, "python")[0])
    for line in "".join(fences(page, "sh")).splitlines():
        if not line.startswith("#"):
            assert shlex.split(line)[0] in {"registry", "vllm"}


def test_text_of_users_stays_text_in_the_diagram() -> None:
    whole = releases.release()
    for evil in EVIL:
        node = whole.lineage.nodes[0].model_copy(update={"ref": f"{evil}@1"})
        lineage = whole.lineage.model_copy(update={"nodes": (node,), "edges": ()})
        (diagram,) = fences(text(Release(**{**vars(whole), "lineage": lineage})), "mermaid")
        assert re.fullmatch(r'graph BT\n    v0\["[\w @/._\-+=,#;]*"\]\n', diagram)


def test_what_looks_like_a_number_to_yaml_1_2_stays_text() -> None:
    """The Hub reads YAML 1.2, where ``1e3`` is a number; here it is none."""
    names = ("1e3", "2E-5", "0x1f", "0o17", "0b1", "1_000", ".5e3", "+12", "-7", "007", "3.", "1.2.3")
    for name in names:
        told = releases.evaluation(metric=name, dataset=name, split=name)
        page = text(releases.release(evaluations=(told,), license=name, task=name))
        front = page.split("---\n")[1]
        quoted = re.findall(r"(?:name|type|split|license_name): (.*)", front)
        assert quoted.count(f"'{name}'") == 6, front
    assert "name: glue-1e3\n" in text(
        releases.release(evaluations=(releases.evaluation(dataset="glue-1e3"),))
    )


def test_an_evaluation_whose_name_shows_nothing_is_no_result() -> None:
    nothing = "\u202e\u2066"
    told = (
        releases.evaluation(metric=nothing),
        releases.evaluation(dataset=nothing),
        releases.evaluation(split=nothing),
    )
    page = text(releases.release(evaluations=told, task=nothing))
    assert _cards.problems(page) == []
    (model,) = yaml.safe_load(page.split("---\n")[1])["model-index"]
    assert [each["dataset"] for each in model["results"]] == [{"name": "sst2", "type": "sst2"}]


@pytest.mark.parametrize("letter", ["m", "é", "'", "\U0001f600"])
def test_a_card_of_any_number_of_evaluations_can_be_merged_with_what_others_write(letter: str) -> None:
    told = tuple(releases.evaluation(metric=f"{letter * 190}{number}") for number in range(3_000))
    made = card(releases.release(evaluations=told), "team/detox")
    assert part(made) == made
    assert part(merge(made, b"# Theirs\n")) == part(made)
    assert "| and 2500 more | … | … | … |" in made.decode()
    (model,) = yaml.safe_load(made.decode().split("---\n")[1])["model-index"]
    assert len(model["results"][0]["metrics"]) > 400


def test_a_card_too_long_to_be_merged_is_refused() -> None:
    for page, what in (("---\nx: " + "y" * 300_000 + "\n---\n", "front matter"), ("y" * 5_000_000, "text")):
        with pytest.raises(UsageError, match=f"the card's {what} has .* more than"):
            card(releases.release(), "team/detox", Template("team.md", page))


def test_a_base_model_that_is_not_on_the_hub_has_to_be_said_when_it_is_made_again() -> None:
    away = BaseModelIdentity(repo="/models/base", revision=None, fingerprint=None)
    composed, plain = releases.release(base_model=away), releases.imported(base_model=away)
    model = releases.release(target="model", base_model=away)
    for page in map(text, (composed, plain, model)):
        assert "/models" not in page
        (*_, lines) = fences(page, "sh")
        commands = [shlex.split(line) for line in lines.splitlines() if not line.startswith("#")]
        for each in commands:
            if each[1] == "add":
                assert each[-2:] == ["--base", "PATH/OF/THE/BASE/MODEL"]
            if each[1] == "materialize":
                assert each[-2:] == ["--base-path", "PATH/OF/THE/BASE/MODEL"]
        assert any({"add", "materialize"} & {*each} for each in commands)
    assert "PATH/OF" not in text(releases.release()) + text(releases.imported())


def test_a_model_is_not_described_as_the_adapter_in_it() -> None:
    page = text(releases.release(target="model"))
    assert "- adapter's rank: 8\n- adapter's parameters: 12,345\n- adapter's dtype: `float32`\n" in page
    assert yaml.safe_load(page.split("---\n")[1])["tags"] == ["adapter-registry", "merge"]
    assert "- rank: 8\n- parameters: 12,345\n" in text(releases.release())


def test_it_tells_of_its_provenance_what_is_in_there() -> None:
    assert "the recipe" in text(releases.release()).partition("## Provenance")[2]
    assert "the recipe" not in text(releases.imported()).partition("## Provenance")[2]


def test_a_large_lineage_is_cut() -> None:
    whole = releases.release()
    node = whole.lineage.nodes[0]
    nodes = tuple(node.model_copy(update={"ref": f"a@{number}"}) for number in range(1, 151))
    lineage = whole.lineage.model_copy(update={"nodes": nodes, "edges": ()})
    (diagram,) = fences(text(Release(**{**vars(whole), "lineage": lineage})), "mermaid")
    assert len(diagram.splitlines()) == 102
    assert "and 50 more" in diagram


def test_a_card_stays_short_however_much_it_is_made_of() -> None:
    inputs = tuple(Source(f"a@{number}", "mit") for number in range(1, 1_001))
    page = text(replace(releases.release(), terms=Terms(license="mit", inputs=inputs)))
    assert page.count("| `mit` |") == 50
    assert "| and 950 more | … |" in page


def shape(page: str) -> list[str]:
    """What a Markdown reader makes of a page, but for the text itself."""
    reader = MarkdownIt("gfm-like", {"linkify": False})
    found = []
    for token in reader.parse(page):
        found.append(f"{token.type} {token.tag} {token.info}")
        kinds = [f"{child.type} {child.attrs}" for child in token.children or () if child.type != "text"]
        found += kinds
    return found
