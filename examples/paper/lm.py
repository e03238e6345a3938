"""The small language model: its tokenizer, its training from nothing, its adapters, and the likelihood of a text.

A model of Llama's shape with 1.3 million parameters, so that ``transformers`` loads it, PEFT trains on it and
``registry materialize --as model`` merges into it. It is trained on the training split only and kept in float16.
"""

from __future__ import annotations

import copy
import json
import math
import random
import shutil
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import LlamaConfig, LlamaForCausalLM

from examples.paper import _precision, corpora
from examples.paper._rows import Kind, Split
from registry import Registry

NAME = "examples/tiny-llama"
FOLDER = Path(__file__).parent / "base"
PAD, BEGIN, END = 0, 1, 2
VOCABULARY = 2048
LENGTH = 64
"""The most tokens of a text that are read."""
TOGETHER = 32
"""Texts in a batch where only likelihoods are wanted: more are padded more."""
BASE_SEED, BASE_STEPS, BASE_BATCH, BASE_RATE = 0, 1250, 48, 3e-3

Example = tuple[list[int], int]
"""The token ids of a text, and how many of them at its beginning are given, not predicted."""


# --- the base model ----------------------------------------------------------------------------------


def build(texts: Sequence[str]) -> None:
    """Train tokenizer and model from nothing; writes ``FOLDER``. Where it is already, nothing is done."""
    if (FOLDER / "model.safetensors").exists():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    _train_tokenizer(texts).save(str(FOLDER / "tokenizer.json"))
    torch.manual_seed(BASE_SEED)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=160,
            intermediate_size=432,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            tie_word_embeddings=True,
            pad_token_id=PAD,
            bos_token_id=BEGIN,
            eos_token_id=END,
        )
    )
    fit(model, encode(texts), steps=BASE_STEPS, rate=BASE_RATE, batch=BASE_BATCH, seed=BASE_SEED, decay=0.1)
    finished: Any = model
    finished.half().save_pretrained(FOLDER)
    (FOLDER / "model.safetensors").chmod(0o644)  # safetensors writes for its owner only


def _train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


def base() -> LlamaForCausalLM:
    """The base model in float32, frozen: one of the caller's own."""
    return copy.deepcopy(_read())


@cache
def _read() -> LlamaForCausalLM:
    model: Any = LlamaForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    return cast("LlamaForCausalLM", model.eval().requires_grad_(False))


# --- texts as tokens ---------------------------------------------------------------------------------


def encode(texts: Sequence[str], given: str | None = None) -> list[Example]:
    """Each text between the marks of its beginning and end, after ``given``, which is read but not predicted."""
    before = [BEGIN, *(tokenizer().encode(given).ids if given else ())]
    return [
        ([*before, *each.ids, END][:LENGTH], len(before)) for each in tokenizer().encode_batch(list(texts))
    ]


def pad(examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Token ids (n, length), and which of them are to be predicted (n, length - 1)."""
    ids = nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids, _ in examples], True, PAD)
    given = torch.tensor([given for _, given in examples])[:, None]
    return ids, (torch.arange(1, ids.shape[1]) >= given) & (ids[:, 1:] != PAD)


def losses(model: nn.Module, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """The negative log-likelihood of each text in nats (n,), and how many tokens it sums over (n,)."""
    ids, wanted = pad(examples)
    whole: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    # Padding is at the end, and attention looks back only: no mask is needed.
    hidden = whole.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state  # (n, length - 1, width)
    logits = whole.lm_head(hidden[wanted]).float()  # (tokens to be predicted, vocabulary)
    each = nn.functional.cross_entropy(logits, ids[:, 1:][wanted], reduction="none")
    rows = wanted.nonzero()[:, 0]
    return torch.zeros(len(ids)).index_add(0, rows, each), wanted.sum(1)


def likelihoods(model: nn.Module, *sets: Sequence[Example]) -> list[tuple[Tensor, Tensor]]:
    """As ``losses`` for each set of any number of texts; computed once for each text, those of like length together."""
    texts = {(tuple(ids), given): (ids, given) for examples in sets for ids, given in examples}
    place = {text: index for index, text in enumerate(texts)}
    distinct = list(texts.values())
    order = sorted(range(len(distinct)), key=lambda index: len(distinct[index][0]))
    total, count = torch.zeros(len(distinct)), torch.zeros(len(distinct))
    with torch.inference_mode():
        for start in range(0, len(order), TOGETHER):
            some = order[start : start + TOGETHER]
            total[some], tokens = losses(model, [distinct[index] for index in some])
            count[some] = tokens.float()
    chosen = [torch.tensor([place[tuple(ids), given] for ids, given in examples]) for examples in sets]
    return [(total[indices], count[indices]) for indices in chosen]


def nlls(model: nn.Module, *sets: Sequence[Example]) -> list[float]:
    """Mean negative log-likelihood of a token of each set, in nats."""
    return [mean(found) for found in likelihoods(model, *sets)]


def mean(found: tuple[Tensor, Tensor]) -> float:
    """Mean negative log-likelihood of a token, in nats, of what ``likelihoods`` gives for a set."""
    total, count = found
    return float(total.double().sum() / count.double().sum())


# --- training ----------------------------------------------------------------------------------------


def batches(lengths: Sequence[int], size: int, rng: random.Random) -> Iterator[list[int]]:
    """Shuffled batches of like length, for ever."""
    while True:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        found = []
        for start in range(0, len(order), 16 * size):
            window = sorted(order[start : start + 16 * size], key=lambda index: lengths[index])
            found += [window[at : at + size] for at in range(0, len(window) - size + 1, size)]
        rng.shuffle(found)
        yield from found


def fit(
    model: nn.Module,
    examples: Sequence[Example],
    *,
    steps: int,
    rate: float,
    seed: int,
    batch: int = 32,
    decay: float = 0.01,
) -> None:
    """AdamW over what requires a gradient; warm-up, then a straight line down to nothing; bfloat16 products."""
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=decay, fused=True)
    feed = batches([len(ids) for ids, _ in examples], batch, random.Random(seed))
    for step, some in enumerate(islice(feed, steps)):
        # Of so few tokens the fused attention takes long to go backward.
        with torch.autocast("cpu", dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            total, count = losses(model, [examples[index] for index in some])
        loss = total.sum() / count.sum()
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / (0.06 * steps)) * (1 - step / steps)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()


# --- adapters ----------------------------------------------------------------------------------------

QUERY_VALUE = ("q_proj", "v_proj")
ALL_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def config(kind: Kind, targets: Sequence[str] = QUERY_VALUE, rank: int = 8) -> PeftConfig:
    """LoRA on ``targets`` with alpha equal to the rank; (IA)3 on key, value and the feed-forward activation."""
    if kind == "lora":
        return LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=rank, target_modules=list(targets))
    return IA3Config(
        task_type="CAUSAL_LM",
        target_modules=["k_proj", "v_proj", "down_proj"],
        feedforward_modules=["down_proj"],
    )


def fresh(settings: PeftConfig, seed: int) -> PeftModel:
    """The base model with an adapter that changes nothing yet: the same one for the same seed."""
    torch.manual_seed(seed)
    model = get_peft_model(base(), settings)
    model.peft_config["default"].base_model_name_or_path = NAME
    return model.eval()


def resume(folder: Path) -> PeftModel:
    """The base model with an adapter on it that is to be trained further."""
    return PeftModel.from_pretrained(base(), folder, is_trainable=True).eval()


def load(folder: Path | None) -> nn.Module:
    """The base model, with the adapter of a PEFT folder on it."""
    if folder is None:
        return base()
    return PeftModel.from_pretrained(base(), folder).eval()


def save(model: PeftModel, folder: Path) -> None:
    """A plain PEFT folder in float16, whole or not there."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.to(torch.float16).save_pretrained(str(partial))
    (partial / "README.md").unlink(missing_ok=True)
    (partial / "adapter_model.safetensors").chmod(0o644)  # safetensors writes for its owner only
    path = partial / "adapter_config.json"
    settings = json.loads(path.read_text("utf-8"))
    for key, value in settings.items():
        if isinstance(value, list):  # PEFT writes sets, in an order that changes from run to run
            settings[key] = sorted(value)
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", "utf-8")
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def merged(folder: Path | None) -> nn.Module:
    """The base model with the adapter of a PEFT folder in its weights: as ``load``, without the cost of the factors."""
    model: Any = load(folder)
    whole: nn.Module = model if folder is None else model.merge_and_unload()
    return _precision.rounded(whole)


@cache
def held_out(name: str, split: Split, sources: tuple[str, ...] = ()) -> list[Example]:
    """The kept texts of a split, encoded; of some sources only where these are given."""
    return encode(
        [text for text, source in corpora.evaluation(name, split) if not sources or source in sources]
    )


def add(catalog: Registry, folder: Path, task: str, seed: int, parents: Sequence[str] = ()) -> None:
    """Register a trained module under its folder's name."""
    catalog.add(
        folder,
        folder.name,
        base=NAME,
        base_path=FOLDER,
        task=task,
        tags={"seed": str(seed)},
        license="MIT",
        parents=parents,
    )


def perplexity(nats: float) -> float:
    return math.exp(nats)
