"""The small language model of the paper's miniature: likelihoods, held-out texts, and settings 3 to 5 as kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from examples.paper import _run, corpora
from registry import Registry

pytest.importorskip("peft")
pytest.importorskip("transformers")

from examples.paper import __main__, detox, lm, unlearning, writing

MEASURED = _run.load()
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def one_by_one(model: Any, example: lm.Example) -> float:
    """The negative log-likelihood of one text, token by token, from its own logits."""
    ids, given = example
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double()
    chances = torch.log_softmax(logits, -1)
    return -float(sum(chances[at - 1, ids[at]] for at in range(given, len(ids))))


def test_likelihoods_of_many_texts_are_those_of_each_alone() -> None:
    """Of unlike lengths, so that most are padded; some after an instruction, which is not counted."""
    texts = [text for text, _ in corpora.evaluation("clean", "validation")][::20]
    examples = [*lm.encode(texts), *lm.encode(texts, "Write a tweet:")]
    model = lm.base()
    [(total, count), (again, _)] = lm.likelihoods(model, examples, examples[::-1])
    assert count.tolist() == [len(ids) - given for ids, given in examples]
    assert total.tolist() == pytest.approx([one_by_one(model, each) for each in examples], rel=1e-4)
    assert again.tolist() == total.tolist()[::-1]
    assert lm.nlls(model, examples) == pytest.approx([float(total.sum() / count.sum())])


@pytest.mark.parametrize("name", ["clean", "toxic", "questions"])
def test_held_out_texts_are_in_one_split_only(name: str) -> None:
    found = [
        [corpora.normalized(text) for text, _ in corpora.evaluation(name, split)]
        for split in ("validation", "test")
    ]
    assert not set(found[0]) & set(found[1])
    for words in found:
        assert len(set(words)) == len(words) >= 100


@pytest.mark.parametrize("kind", ["lora", "ia3"])
def test_the_merged_model_is_the_base_with_the_composed_adapter(kind: Any, tmp_path: Path) -> None:
    """Written once as an adapter and once as a whole model, both read by the libraries that read such folders."""
    from transformers import AutoModelForCausalLM

    with Registry.open(tmp_path / "home") as catalog:
        unlearning.register(catalog, 0, kind)
        made = catalog.compose("clean", "-0.5*toxic", dtype="float32")
        catalog.materialize(made, into="adapter", out=tmp_path / "adapter")
        catalog.materialize(made, into="model", out=tmp_path / "model", base_path=lm.FOLDER)
    examples = lm.held_out("toxic", "validation")[::8]
    whole: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    whole.eval()
    [composed] = lm.nlls(lm.load(tmp_path / "adapter"), examples)
    assert lm.nlls(whole, examples) == pytest.approx([composed], rel=2e-3)
    assert composed > lm.nlls(lm.base(), examples)[0]


@pytest.mark.parametrize(
    ("name", "kind"), [("unlearning", "lora"), ("unlearning", "ia3"), ("transfer", "lora"), ("detox", "ia3")]
)
def test_the_kept_modules_give_the_kept_figures(name: str, kind: Any) -> None:
    """One seed: the modules alone and their compositions, by the public API and from written folders."""
    found = _run.measure(_run.Job(name, kind, 0, _run.choose(name, kind, MEASURED.rows)))
    assert {row.what for row in found} >= {"base", "composition", *_run.setting(name).MODULES}
    assert _run.differences(MEASURED, found) == []


@pytest.mark.parametrize(("name", "what"), [("unlearning", "base"), ("detox", "composition")])
def test_nothing_is_taken_away_at_the_first_lambda(name: str, what: str) -> None:
    """In setting 3 that is the base model; in setting 5 the factors and the exact sum agree."""
    rows = [row for row in MEASURED.rows if (row.setting, row.split) == (name, "validation")]
    expected = {
        (row.kind, row.seed): row.metrics
        for row in rows
        if row.what == what and row.operator in (None, "exact") and row.weight in (None, "0")
    }
    none = [row for row in rows if row.weight == "0"]
    assert {row.operator for row in none} == {"exact", "factors"}
    for row in none:
        assert row.metrics == pytest.approx(expected[row.kind, row.seed], rel=1e-3)


def test_modules_of_one_seed_start_from_one_initialization() -> None:
    """LoRA's A is drawn by the seed alone, and another for another seed."""
    starts = [
        next(
            value for name, value in lm.fresh(lm.config("lora"), seed).named_parameters() if "lora_A" in name
        )
        for seed in (0, 0, 1)
    ]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


# --- what the models write


@pytest.mark.parametrize("name", writing.SETTINGS)
def test_samples_are_the_seeds_own_and_without_what_they_go_on_from(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "SAMPLES", 20)
    jobs = [_run.Job(name, "lora", seed) for seed in (0, 1)]
    first, second = (writing.samples(lm.base(), job) for job in jobs)
    assert writing.samples(lm.base(), jobs[0]) == first
    assert first != second
    assert len(first) == len(second) == 20
    assert not any(text.startswith(given) for text in first for given in detox.INSTRUCTIONS.values())
    for group in writing.beginnings(name):
        assert len({len(ids) for ids in group}) == 1
        assert all(ids[0] == lm.BEGIN and lm.END not in ids for ids in group)


def test_samples_are_drawn_from_the_distribution_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first token after one beginning: shares of the likeliest are their probabilities, not sharpened or cut."""
    begun = [[lm.BEGIN]]
    monkeypatch.setattr(writing, "SAMPLES", 6000)
    monkeypatch.setattr(writing, "TOKENS", 1)
    monkeypatch.setattr(writing, "beginnings", lambda _: [begun])
    model: Any = lm.base()
    with torch.inference_mode():
        chances = torch.softmax(model(input_ids=torch.tensor(begun)).logits[0, -1].double(), -1)
    texts = writing.samples(model, _run.Job("unlearning", "lora", 0))
    words = [lm.tokenizer().decode([token]) for token in range(lm.VOCABULARY)]
    once = [token for token in chances.argsort(descending=True).tolist() if words.count(words[token]) == 1]
    for token in once[:5]:
        expected = float(chances[token])
        assert texts.count(words[token]) / 6000 == pytest.approx(expected, abs=5 * math.sqrt(expected / 6000))
    tail = [words[token] for token in once[60:]]
    expected = float(sum(chances[token] for token in once[60:]))
    assert sum(text in set(tail) for text in texts) / 6000 == pytest.approx(expected, abs=0.04)


def test_what_the_kept_models_wrote_is_there_for_each_seed() -> None:
    kept = _run.load()
    for name in writing.SETTINGS:
        for kind in ("lora", "ia3"):
            rows = [each for each in kept.written if (each.setting, each.kind) == (name, kind)]
            assert {each.seed for each in rows} == {0, 1, 2}
            weights = {each.weight for each in rows if (each.what, each.operator) == ("composition", "exact")}
            assert weights == {_run.choose(name, kind, kept.rows)["exact"]}
            assert {each.what for each in rows} >= {"base", "toxic", "composition", writing.FULL}


def test_without_its_judge_what_was_written_is_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writing, "available", lambda: False)
    kept = _run.load()
    found = __main__.sampled([_run.Job("detox", "lora", 0)], kept, 1)
    assert _run.merged(kept, written=found) == kept
    assert "paper-train" in capsys.readouterr().err
