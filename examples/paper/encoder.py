"""MiniLM as the base model of settings 1 and 2: adapters on its upper half, tasks without a trained head.

A sentence gets the label whose describing sentence, embedded by the unadapted base model, is nearest to it
(``registry.demo.minilm``). That is the counterpart of the paper's text-to-text labels: a module is all there is to a
task, and nothing but modules is composed.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import torch
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from examples.minilm import train as small
from examples.paper import _precision, corpora
from examples.paper._rows import Kind, Split, folder
from registry import Registry
from registry.demo import minilm

BASE = minilm.BASE_MODEL
LAYERS = range(4, 6)  # those below carry no adapter, so their output is computed once per sentence
STEPS = 100
BATCH = 32
LEARNING_RATE: Mapping[Kind, float] = {"lora": 3e-3, "ia3": 1.5e-2}
TEMPERATURE = 20.0
HIDDEN = 0.4  # of the tokens, where a module learns from texts without labels
SHORT = 20  # words of a sentence at most, of training and evaluation alike
TEXTS: Mapping[Split, int] = {"validation": 400, "test": 200}

Task = Literal["sentiment", "product", "genre", "text"]
"""``product`` is the sentiment of product reviews; ``text`` is no task, see ``_hidden``."""
Labelled = Sequence[tuple[str, str]]

LABELS: Mapping[Task, Mapping[str, str]] = {
    "sentiment": minilm.TASKS["sentiment"].labels,
    "product": minilm.TASKS["sentiment"].labels,
    "genre": {
        "news": "A newspaper article, news.",
        "fiction": "A story, fiction, a novel.",
        "learned": "A scientific article, research.",
        "hobbies": "An article about hobbies, crafts and the home.",
    },
}


# --- texts


def examples_of(task: Task, work: Path, split: Split | None) -> dict[str, list[str]]:
    """The short sentences of a split by label; None is the training split. Ratings near 0 are no sentiment."""
    if task == "genre":
        found = [(each.document, each.text, each.label) for each in corpora.brown(work)]
    else:
        rated = corpora.vader("movieReviewSnippets" if task == "sentiment" else "amazonReviewSnippets", work)
        found = [
            (each.document, each.text, "positive" if float(each.label) > 0 else "negative")
            for each in rated
            if abs(float(each.label)) >= 0.8
        ]
    return {
        label: [
            text
            for document, text, its in found
            if its == label and corpora.split_of(document) == split and len(text.split()) <= SHORT
        ]
        for label in LABELS[task]
    }


def drawn(task: Task, work: Path, shares: Mapping[str, int], rng: random.Random) -> list[tuple[str, str]]:
    """That many training sentences of each label."""
    pools = examples_of(task, work, None)
    return [(text, label) for label, count in shares.items() for text in rng.sample(pools[label], count)]


def hold_out(task: Task, work: Path) -> None:
    """Keep sentences of both other splits, as many of each label, unless they are kept already."""
    for split, count in TEXTS.items():
        if corpora.held_out(task, split).exists():
            continue
        pools = examples_of(task, work, split)
        share = min(count // len(pools), *map(len, pools.values()))
        rng = random.Random(0)
        chosen = [
            (text, label) for label, texts in pools.items() for text in sorted(rng.sample(texts, share))
        ]
        corpora.write_evaluation(task, split, chosen)


# --- training


@dataclass(frozen=True)
class Lesson:
    """What a module learns from, one task or several at once, and how."""

    data: Mapping[Task, Labelled]
    seed: int
    """Of the order of the data."""
    start: int
    """Of the initialization."""
    steps: int = STEPS
    rate: float | None = None
    frozen: bool = False
    """Whether LoRA's A stays as it was initialized."""


def config(kind: Kind) -> PeftConfig:
    """LoRA on query and value; (IA)³ on key, value and the feed-forward activation, as in the paper."""
    attention = [f"encoder.layer.{layer}.attention.self" for layer in LAYERS]
    # PEFT scales the *input* of a feed-forward module: that of output.dense is the intermediate activation.
    feedforward = [f"encoder.layer.{layer}.output.dense" for layer in LAYERS]
    if kind == "lora":
        query_value = [f"{block}.{name}" for block in attention for name in ("query", "value")]
        return LoraConfig(task_type="FEATURE_EXTRACTION", r=8, lora_alpha=8, target_modules=query_value)
    key_value = [f"{block}.{name}" for block in attention for name in ("key", "value")]
    return IA3Config(
        task_type="FEATURE_EXTRACTION",
        target_modules=key_value + feedforward,
        feedforward_modules=feedforward,
    )


_LOWER: dict[str, Tensor] = {}


def lower(texts: Sequence[str]) -> Mapping[str, Tensor]:
    """What the layers without adapters make of each sentence: (tokens, width), computed once in a process."""
    new = sorted({text for text in texts if text not in _LOWER}, key=len)
    if new:
        encoder: Any = base()
        tokens = minilm.tokenize(new)
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            for start in range(0, len(new), BATCH):
                ids, mask = minilm.pad(tokens[start : start + BATCH])
                hidden = encoder.embeddings(input_ids=ids)
                hidden = _through(encoder.encoder.layer[: LAYERS.start], hidden, mask.bool())
                for text, row, real in zip(new[start:], hidden, mask.sum(1).tolist(), strict=False):
                    _LOWER[text] = row[:real].clone()
    return _LOWER


@cache
def base() -> nn.Module:
    """The base model alone, loaded once in a process; nobody may change it."""
    return minilm.load_encoder()


def train(target: Path, kind: Kind, lesson: Lesson) -> None:
    """One module, written as a PEFT folder unless it is there."""
    if target.exists():
        return
    torch.set_num_threads(1)
    torch.manual_seed(lesson.start)
    model: Any = get_peft_model(copy.deepcopy(base()), config(kind))
    model.peft_config["default"].base_model_name_or_path = BASE
    model.eval()  # no dropout: few parameters, seen few times
    for name, parameter in model.named_parameters():
        if lesson.frozen and "lora_A" in name:
            parameter.requires_grad = False
    upper = model.get_base_model().encoder.layer[LAYERS.start :]
    parameters = [each for each in model.parameters() if each.requires_grad]
    rate = lesson.rate or LEARNING_RATE[kind]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    feeds = {task: _feed(task, data, lesson.seed) for task, data in lesson.data.items()}
    tasks = list(feeds)
    for step in range(lesson.steps * len(tasks)):
        done = step / (lesson.steps * len(tasks))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / (0.06 * lesson.steps)) * (1 - done)
        hidden, mask, targets, answers = next(feeds[tasks[step % len(tasks)]])
        # Of so few tokens the fused attention takes half of a step to go backward.
        with torch.autocast("cpu", dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            output = _through(upper, hidden, mask)
        cosines = minilm.pool(output.float(), mask) @ targets.T
        loss = nn.functional.cross_entropy(TEMPERATURE * cosines, answers)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    for name, parameter in model.named_parameters():
        if "lora_" in name or "ia3_" in name:
            parameter.data = parameter.data.half()  # half the size, and no accuracy in the first decimal
    partial = target.with_name(f"{target.name}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    small.save(model, partial)
    partial.rename(target)  # what is there is whole


def _feed(task: Task, data: Labelled, seed: int) -> Any:
    """Batches for ever: hidden states (sentences, tokens, width), their mask, the labels' vectors, the answers."""
    if task == "text":
        yield from _hidden([text for text, _ in data], seed)
        return
    cached = lower([text for text, _ in data])
    features = [cached[text].clone() for text, _ in data]
    labels = list(LABELS[task])
    answers = torch.tensor([labels.index(label) for _, label in data])
    targets = label_vectors(task).clone()
    for chosen in small.batches([len(each) for each in features], random.Random(seed)):
        hidden, mask = _padded([features[index] for index in chosen])
        yield hidden, mask, targets, answers[chosen]


def _hidden(texts: Sequence[str], seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The same shapes for texts without labels, instead of language modelling, for which MiniLM has no head.

    Of each sentence 40% of the tokens are hidden. It is to be told among those of its batch: the "labels" are what
    the base model makes of the whole sentences.
    """
    cached = lower(texts)
    features = [cached[text].clone() for text in texts]
    generator = torch.Generator().manual_seed(seed)
    layers = base().encoder.layer[LAYERS.start :]  # type: ignore[union-attr, index]
    for chosen in small.batches([len(each) for each in features], random.Random(seed)):
        hidden, mask = _padded([features[index] for index in chosen])
        with torch.no_grad():
            whole = minilm.pool(_through(layers, hidden, mask), mask)
        seen = mask & (torch.rand(mask.shape, generator=generator) > HIDDEN)
        seen[:, 0] = True  # no sentence is all hidden
        yield hidden, seen, whole, torch.arange(len(chosen))


def _padded(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    hidden = nn.utils.rnn.pad_sequence(list(features), batch_first=True)
    mask = torch.arange(hidden.shape[1]) < torch.tensor([len(each) for each in features])[:, None]
    return hidden, mask


def _through(layers: Any, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
    seen = None if mask is None else mask[:, None, None, :]
    for layer in layers:
        hidden = layer(hidden, attention_mask=seen)
    return hidden


# --- measuring


@cache
def label_vectors(task: Task) -> Tensor:
    """The sentences that describe the labels, embedded by the base model: (labels, width)."""
    with torch.autocast("cpu", enabled=False):
        return minilm.embed(base(), list(LABELS[task].values()))


@cache
def _held_out(task: Task, split: Split, count: int | None) -> tuple[list[Tensor], Tensor]:
    """Batches of one length of the kept sentences, so that none is padded, and the right labels in their order."""
    examples = corpora.evaluation(task, split)
    examples = examples if count is None else examples[:: len(examples) // count]
    cached = lower([text for text, _ in examples])
    ordered = sorted(examples, key=lambda example: len(cached[example[0]]))
    labels = list(LABELS[task])
    groups = groupby((cached[text] for text, _ in ordered), len)
    batches = [torch.stack(list(group)) for _, group in groups]
    return batches, torch.tensor([labels.index(label) for _, label in ordered])


@lru_cache(maxsize=1)
def _adapted(adapter: Path | None) -> Any:
    """The upper layers with an adapter merged into them: W + BA costs nothing in the forward pass."""
    whole: Any = base()
    shared = [*whole.embeddings.parameters(), *whole.encoder.layer[: LAYERS.start].parameters()]
    model = copy.deepcopy(whole, {id(each): each for each in shared})  # most of it stays as it is
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return _precision.rounded(model.encoder.layer[LAYERS.start :])


def accuracy(adapter: Path | None, task: Task, split: Split, *, count: int | None = None) -> float:
    """Percentage of the kept sentences of a split, or ``count`` of them, that get their label; fp32."""
    batches, answers = _held_out(task, split, count)
    upper = _adapted(adapter)
    with torch.inference_mode():
        hidden = [_through(upper, batch) for batch in batches]
    embeddings = torch.cat([minilm.pool(each.float(), torch.ones(each.shape[:2])) for each in hidden])
    return 100 * float(((embeddings @ label_vectors(task).T).argmax(1) == answers).float().mean())


def register(
    catalog: Registry, setting: str, names: Sequence[str], seed: int, kind: Kind, *, modules: Path, task: str
) -> None:
    """Add modules of a setting, checked against the base model's tensors."""
    for name in names:
        catalog.add(
            folder(setting, kind, seed, name, modules),
            name,
            base=BASE,
            base_path=minilm.base_folder(),
            task=task,
            tags={"setting": setting, "seed": str(seed)},
            license="MIT",
        )
