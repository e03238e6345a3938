"""Train the adapters that ``registry demo`` composes, and measure their compositions.

    python examples/minilm/train.py                 # trains all eight, writes registry/demo/data
    python examples/minilm/train.py --explore       # compares learning rates on the validation split
    python examples/minilm/train.py --measure       # only measures what is in registry/demo/data

The sentences come from the source distribution of the package vaderSentiment, which pip downloads.
"""

# ruff: noqa: S311 -- the random numbers shuffle sentences, nothing secret

import argparse
import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

if __name__ == "__main__":
    # Everything is local; a look at the Hub could only slow things down.
    os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn

from registry.demo import minilm

VADER = "vaderSentiment==3.3.2"
DOMAINS = {
    "movie": "movieReviewSnippets",
    "editorial": "nytEditorialSnippets",
    "tweet": "tweets",
    "product": "amazonReviewSnippets",
}
LOWER = 3  # layers below carry no adapter, so their output is computed once per sentence
LAYERS = range(LOWER, 6)
TEMPERATURE = 20.0
BATCH = 32
INIT_SEED = 0  # one for all: arithmetic on LoRA factors needs a common start
STEPS = {"sentiment": 150, "source": 150}
LEARNING_RATE = {"lora": 4e-3, "ia3": 1e-2}
EXPLORED = {"lora": (1e-3, 2e-3, 4e-3), "ia3": (5e-3, 1e-2)}


@dataclass(frozen=True)
class Sentence:
    text: str
    domain: str
    rating: float
    split: str


Labelled = list[tuple[str, str]]


# --- sentences ---------------------------------------------------------------------------------------


def download() -> bytes:
    """The data set inside the source distribution: only that one carries it, the wheel does not."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        subprocess.run([*pip, "--no-binary", ":all:", "--no-build-isolation", VADER], check=True)
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as sdist:
            return member(sdist, "hutto_ICWSM_2014.tar.gz")


def member(archive: tarfile.TarFile, ending: str) -> bytes:
    """The content of the one file whose name ends so."""
    stream = archive.extractfile(next(m for m in archive.getmembers() if m.name.endswith(ending)))
    if stream is None:
        raise FileNotFoundError(ending)
    return stream.read()


def read(archive: bytes) -> list[Sentence]:
    """All usable sentences, each once, assigned to train, validation or test."""
    sentences, seen = [], set()
    with tarfile.open(fileobj=io.BytesIO(archive)) as data:
        for domain, stem in DOMAINS.items():
            for line in member(data, f"{stem}_GroundTruth.txt").decode("utf-8").splitlines():
                number, rating, raw = line.split("\t")
                # The stand-ins for names and links would give tweets away.
                text = " ".join(re.sub(r"@anonymous\w*|https?://\S*", " ", raw).split())
                words = tuple(re.findall(r"\w+", text.lower()))
                if not 4 <= len(words) <= 50 or words in seen:
                    continue
                seen.add(words)
                # Sentences of one document ("12_3" is the third of document 12) never straddle splits.
                document = number.split("_")[0]
                sentences.append(Sentence(text, domain, float(rating), split_of(f"{domain}/{document}")))
    return sentences


def split_of(document: str) -> str:
    """60% of the documents are for training, 20% for choices made here, 20% for the test."""
    bucket = int.from_bytes(hashlib.sha256(document.encode()).digest()[:4]) % 10
    return "train" if bucket < 6 else "validation" if bucket < 8 else "test"


def sentiment_pools(sentences: Sequence[Sentence], split: str) -> tuple[Labelled, Labelled]:
    """Clearly negative and clearly positive movie snippets, shuffled."""
    chosen = [s for s in sentences if s.domain == "movie" and s.split == split and abs(s.rating) >= 0.8]
    random.Random(0).shuffle(chosen)
    negative = [(s.text, "negative") for s in chosen if s.rating < 0]
    positive = [(s.text, "positive") for s in chosen if s.rating > 0]
    return negative, positive


def source_sample(sentences: Sequence[Sentence], split: str, count: int) -> Labelled:
    """The same number of sentences from each source."""
    sample = []
    for domain in DOMAINS:
        texts = [s.text for s in sentences if s.domain == domain and s.split == split]
        random.Random(0).shuffle(texts)
        if len(texts) < count:
            raise ValueError(f"{domain}/{split} has only {len(texts)} sentences")
        sample += [(text, domain) for text in texts[:count]]
    return sample


def training_sets(sentences: Sequence[Sentence]) -> dict[str, Labelled]:
    """What each adapter learns from: two halves with 80/20 and 20/80 labels, both, and the sources."""
    negative, positive = sentiment_pools(sentences, "train")
    mostly_negative = negative[:800] + positive[:200]
    mostly_positive = negative[800:1000] + positive[200:1000]
    return {
        "mostly-negative": mostly_negative,
        "mostly-positive": mostly_positive,
        "sentiment": mostly_negative + mostly_positive,
        "source": source_sample(sentences, "train", 400),
    }


def held_out(sentences: Sequence[Sentence], split: str) -> dict[str, Labelled]:
    negative, positive = sentiment_pools(sentences, split)
    return {
        "sentiment": negative[:400] + positive[:400],
        "source": source_sample(sentences, split, 200),
    }


# --- training ----------------------------------------------------------------------------------------


def config(kind: str) -> PeftConfig:
    """LoRA on query and value; (IA)3 on key, value and the feed-forward activation."""
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


def lower_activations(sentences: Sequence[str]) -> list[Tensor]:
    """What the first layers make of each sentence: (tokens, width)."""
    encoder: Any = minilm.load_encoder()
    tokens = minilm.tokenize(sentences)
    found: list[Tensor] = [torch.empty(0)] * len(tokens)
    order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            ids, mask = minilm.pad([tokens[index] for index in chosen])
            hidden = encoder.embeddings(input_ids=ids)
            for layer in encoder.encoder.layer[:LOWER]:
                hidden = layer(hidden, attention_mask=mask[:, None, None, :].bool())
            for row, index in enumerate(chosen):
                found[index] = hidden[row, : len(tokens[index])].clone()
    return found


def batches(lengths: Sequence[int], rng: random.Random) -> Iterator[list[int]]:
    """Shuffled batches of like length, for ever."""
    while True:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        found = []
        for start in range(0, len(order), 8 * BATCH):
            window = sorted(order[start : start + 8 * BATCH], key=lambda index: lengths[index])
            found += [window[at : at + BATCH] for at in range(0, len(window) - BATCH + 1, BATCH)]
        rng.shuffle(found)
        yield from found


def train(kind: str, task: str, data: Labelled, rate: float, cached: dict[str, Tensor]) -> PeftModel:
    """One adapter, from the common initialization, on a frozen base model."""
    torch.manual_seed(INIT_SEED)
    model = get_peft_model(minilm.load_encoder(), config(kind))
    model.peft_config["default"].base_model_name_or_path = minilm.BASE_MODEL
    model.eval()  # no dropout: a thousand sentences and so few parameters do not overfit
    bert: Any = model.get_base_model()
    upper = bert.encoder.layer[LOWER:]
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    targets = minilm.label_embeddings(task).clone()
    names = list(minilm.TASKS[task].labels)
    features = [cached[text].clone() for text, _ in data]
    answers = torch.tensor([names.index(label) for _, label in data])
    feed = batches([len(f) for f in features], random.Random(1))
    steps = STEPS[task]
    for step in range(steps):
        chosen = next(feed)
        hidden = nn.utils.rnn.pad_sequence([features[index] for index in chosen], batch_first=True)
        mask = torch.arange(hidden.shape[1]) < torch.tensor([len(features[i]) for i in chosen])[:, None]
        for layer in upper:
            hidden = layer(hidden, attention_mask=mask[:, None, None, :])
        loss = nn.functional.cross_entropy(
            TEMPERATURE * minilm.pool(hidden, mask) @ targets.T, answers[chosen]
        )
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / (0.06 * steps)) * (1 - step / steps)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return model


def save(model: PeftModel, folder: Path) -> None:
    """A plain PEFT folder, the same bytes for the same weights."""
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    (folder / "adapter_model.safetensors").chmod(0o644)  # safetensors writes for its owner only
    path = folder / "adapter_config.json"
    settings = json.loads(path.read_text("utf-8"))
    for key, value in settings.items():
        if isinstance(value, list):  # PEFT writes sets, in an order that changes from run to run
            settings[key] = sorted(value)
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", "utf-8")


# --- measuring ---------------------------------------------------------------------------------------

Terms = dict[str, float]
MEASURED: list[tuple[str, Terms]] = [
    ("base model", {}),
    ("mostly-negative", {"mostly-negative": 1}),
    ("mostly-positive", {"mostly-positive": 1}),
    ("0.5 * mostly-negative + 0.5 * mostly-positive", {"mostly-negative": 0.5, "mostly-positive": 0.5}),
    ("mostly-negative + mostly-positive", {"mostly-negative": 1, "mostly-positive": 1}),
    ("sentiment (trained on both halves)", {"sentiment": 1}),
    ("-sentiment", {"sentiment": -1}),
    ("-mostly-negative", {"mostly-negative": -1}),
    ("-mostly-positive", {"mostly-positive": -1}),
    ("source", {"source": 1}),
    ("0.5 * sentiment + 0.5 * source", {"sentiment": 0.5, "source": 0.5}),
    ("sentiment + source", {"sentiment": 1, "source": 1}),
]


def compose(folder: Path, kind: str, terms: Terms, *, factors: bool = False) -> nn.Module:
    """The base model with a sum of adapters: exact, or of the LoRA factors as in the paper."""
    folders = [folder / f"{name}-{kind}" for name in terms]
    weights = list(terms.values())
    if not folders:
        return minilm.load_encoder()
    model: Any = minilm.load_encoder(adapter=folders[0])
    if kind == "lora" and not factors:
        names = ["default", *(path.name for path in folders[1:])]
        for name, path in zip(names[1:], folders[1:], strict=True):
            model.load_adapter(path, name)
        # Stacks the factors, which is the exact sum of the weight changes, negative weights included.
        model.add_weighted_adapter(names, weights, "composed", combination_type="cat")
        model.set_adapter("composed")
        return cast("nn.Module", model)
    states = [load_file(path / "adapter_model.safetensors") for path in folders]
    summed = {}
    for key in states[0]:
        # (IA)3 scales, so "nothing" is 1; of a LoRA the paper flips the sign of B alone.
        origin = 1.0 if kind == "ia3" else 0.0
        signed = [abs(w) if "lora_A" in key else w for w in weights]
        summed[key] = origin + sum(
            (w * (state[key] - origin) for w, state in zip(signed, states, strict=True)),
            start=torch.zeros_like(states[0][key]),
        )
    set_peft_model_state_dict(model, summed)
    return cast("nn.Module", model)


def measure(folder: Path, kind: str, examples: dict[str, Labelled]) -> None:
    """A Markdown table of the accuracies of the base model, the adapters and their compositions."""
    print(f"\n| {kind} | sentiment | source |\n| --- | --- | --- |")
    for name, terms in MEASURED:
        for factors in (False, True) if kind == "lora" and len(terms) > 1 else (False,):
            encoder = compose(folder, kind, terms, factors=factors)
            scores = [minilm.score(encoder, task, examples[task]) for task in minilm.TASKS]
            print(
                f"| {f'factors({name})' if factors else name} | {scores[0]:.1f} | {scores[1]:.1f} |",
                flush=True,
            )


def bundled_examples() -> dict[str, Labelled]:
    """The test sentences as they ship."""
    return {
        task.name: [
            (row["text"], row["label"])
            for row in map(json.loads, task.evaluation_file.read_text("utf-8").splitlines())
        ]
        for task in minilm.TASKS.values()
    }


def train_all(
    folder: Path, kind: str, rate: float, sets: dict[str, Labelled], cached: dict[str, Tensor]
) -> None:
    for name, data in sets.items():
        start = time.perf_counter()
        task = "source" if name == "source" else "sentiment"
        save(train(kind, task, data, rate, cached), folder / f"{name}-{kind}")
        print(f"{name}-{kind}: {len(data)} sentences, {time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--explore", action="store_true", help="compare learning rates on the validation split")
    mode.add_argument("--measure", action="store_true", help="only measure the bundled adapters")
    options = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)  # transformers about its own names, at each adapter
    if not options.measure:
        sentences = read(download())
        sets = training_sets(sentences)
        texts = sorted({text for data in sets.values() for text, _ in data})
        cached = dict(zip(texts, lower_activations(texts), strict=True))
    if options.explore:
        validation = held_out(sentences, "validation")
        for kind, rates in EXPLORED.items():
            for rate in rates:
                with tempfile.TemporaryDirectory() as trial:
                    print(f"\n{kind}, learning rate {rate:g}, validation split")
                    train_all(Path(trial), kind, rate, sets, cached)
                    measure(Path(trial), kind, validation)
        return
    folder = minilm.DATA / "adapters"
    if not options.measure:
        for task, examples in held_out(sentences, "test").items():
            lines = [
                json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in examples
            ]
            minilm.TASKS[task].evaluation_file.write_text("\n".join(lines) + "\n", "utf-8")
        for kind, rate in LEARNING_RATE.items():
            train_all(folder, kind, rate, sets, cached)
    for kind in LEARNING_RATE:
        measure(folder, kind, bundled_examples())


if __name__ == "__main__":
    main()
