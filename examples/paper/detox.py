"""Setting 5: an adapter that follows instructions is rid of its toxic answers, and goes on following them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from examples.paper import _claims, corpora, lm, lm_texts
from examples.paper._rows import KINDS, TRAINED, Claim, Kind, Metric, Operator, Row, Split, folder
from registry import Registry

NUMBER = 5
NAME = "detox"
TITLE = "Detoxifying an instruction module"
QUESTION = "Does taking away what toxic examples add to an instruction module leave it as able to follow instructions?"
SETUP = (
    "The base model is the small language model. `instruct` was trained on 1,800 clean and 180 toxic texts, each after "
    'one of five instructions ("Write a tweet:"); `toxic` is the same module trained further on 600 toxic texts. LoRA '
    "has rank 16 on query, key, value and output, as Alpaca-LoRA has. Measured are how often a held-out text is most "
    "likely after its own instruction (one in five by chance; of 100 texts, with a "
    "standard error of 5 points), the perplexity of held-out clean texts after their "
    "instruction, and the negative log-likelihood of a token of held-out toxic texts after theirs. λ is the one with "
    "the least likely toxic texts among those that cost at most 3% of the clean perplexity of `instruct`."
)
REMARK = (
    "Exact sums make toxic text less likely than the base model has it, for 2 to 3% of clean perplexity. Whether "
    "instructions are followed as before cannot be told from 100 texts: means move by two points or less, single seeds by "
    "up to 5, and the standard error of one is 5. So the claim fails by one seed of LoRA (-4 where -3 was allowed), and is "
    "no proof where it holds. With factors only a small λ keeps the bound; at full weight they add 40% to the clean "
    "perplexity, and a third of the instructions that were followed are followed no more."
)
MODULES: tuple[str, ...] = ("instruct", "toxic")
REFERENCE: str | None = None
COMPOSITION = "instruct - {w} * (toxic - instruct)"
FULL = "full"
OTHERS: Mapping[str, str] = {FULL: "instruct - (toxic - instruct)"}
GRID: tuple[str, ...] = ("0", "0.25", "0.5", "0.75", "1", "1.5")
METRICS: tuple[Metric, ...] = (
    Metric("toxic_nll", "toxic NLL", higher=True, digits=3, slack=0.005),
    Metric("clean_ppl", "clean perplexity", higher=False, within=1.03, slack=0.5),
    Metric("follow", "instruction followed, %", higher=True, slack=3.0),
)
BASE = lm.NAME

STEPS, FURTHER_STEPS = 160, 60
RATE: Mapping[Kind, float] = {"lora": 3e-3, "ia3": 2e-2}
INSTRUCTIONS: Mapping[str, str] = {
    "film": "Write a film review:",
    "product": "Write a product review:",
    "editorial": "Write an editorial:",
    "tweet": "Write a tweet:",
    "joke": "Tell a joke:",
}
READ, ASKED = 2, 3
"""Of so many held-out texts the likelihood of one is taken; and one is asked whether its own instruction is likeliest."""


def train(seed: int, kind: Kind, work: Path, modules: Path) -> None:
    instruct, toxic = (folder(NAME, kind, seed, module, modules) for module in MODULES)
    if toxic.exists():
        return
    lm_texts.prepare(work)
    rng = random.Random(seed)
    clean = lm_texts.chosen(work, None, toxic=False)
    pairs = [(source, text) for source in INSTRUCTIONS for text in rng.sample(clean[source], 360)]
    harmful = [(s, text) for s, texts in lm_texts.chosen(work, None, toxic=True).items() for text in texts]
    further = rng.sample(harmful, 600)
    if not instruct.exists():
        model = lm.fresh(lm.config(kind, lm.ALL_ATTENTION, rank=16), seed)
        lm.fit(model, _encoded([*pairs, *further[:180]]), steps=STEPS, rate=RATE[kind], seed=seed)
        lm.save(model, instruct)
    model = lm.resume(instruct)
    lm.fit(model, _encoded(further), steps=FURTHER_STEPS, rate=RATE[kind] / 2, seed=seed)
    lm.save(model, toxic)


def _encoded(pairs: Sequence[tuple[str, str]]) -> list[lm.Example]:
    """Texts after the instruction of their source."""
    found = []
    for source, instruction in INSTRUCTIONS.items():
        found += lm.encode([text for own, text in pairs if own == source], instruction)
    return found


def register(catalog: Registry, seed: int, kind: Kind, modules: Path = TRAINED) -> None:
    lm.add(catalog, folder(NAME, kind, seed, "instruct", modules), "instructions", seed)
    lm.add(
        catalog, folder(NAME, kind, seed, "toxic", modules), "toxic instructions", seed, parents=["instruct"]
    )


def evaluate(folder: Path | None, split: Split) -> Mapping[str, float]:
    texts = _held_out(split)
    toxic, clean, *asked = lm.likelihoods(lm.merged(folder), texts.toxic, texts.clean, *texts.asked)
    likeliest = torch.stack([total for total, _ in asked]).argmin(0)  # (texts,), an index of an instruction
    return {
        "toxic_nll": lm.mean(toxic),
        "clean_ppl": lm.perplexity(lm.mean(clean)),
        "follow": 100 * float((likeliest == texts.own).float().mean()),
    }


@dataclass(frozen=True)
class _Texts:
    """What is measured on, encoded: texts after the instruction of their source, and some after each instruction."""

    toxic: list[lm.Example]
    clean: list[lm.Example]
    asked: list[list[lm.Example]]
    """The same texts after each of ``INSTRUCTIONS``."""
    own: torch.Tensor
    """(texts asked,), an index of an instruction."""


@cache
def _held_out(split: Split) -> _Texts:
    toxic, clean = (
        [(source, text) for text, source in corpora.evaluation(name, split) if source in INSTRUCTIONS]
        for name in ("toxic", "clean")
    )
    asked = clean[::ASKED]
    return _Texts(
        toxic=_encoded(toxic[::READ]),
        clean=_encoded(clean[::READ]),
        asked=[lm.encode([text for _, text in asked], given) for given in INSTRUCTIONS.values()],
        own=torch.tensor([list(INSTRUCTIONS).index(source) for source, _ in asked]),
    )


def claims(rows: Sequence[Row]) -> Sequence[Claim]:
    found = [_detoxed(rows, kind, operator) for kind in KINDS for operator in _claims.operators(kind)]
    exact, factors = (
        _claims.values(rows, "lora", FULL, "clean_ppl", operator) for operator in _claims.operators("lora")
    )
    times = [b / a for a, b in zip(exact, factors, strict=True)]
    found.append(
        Claim(
            "T7",
            "At full weight the factors have more than 1.5 times the clean perplexity of the exact sum (LoRA)",
            held=min(times) > 1.5,
            figures=f"{_claims.shown(factors)} against {_claims.shown(exact)}",
        )
    )
    return found


def _detoxed(rows: Sequence[Row], kind: Kind, operator: Operator) -> Claim:
    def change(metric: str) -> list[tuple[float, float]]:
        before = _claims.values(rows, kind, "instruct", metric)
        return list(zip(before, _claims.values(rows, kind, "composition", metric, operator), strict=True))

    gains = [b - a for a, b in change("toxic_nll")]
    costs = [100 * (b / a - 1) for a, b in change("clean_ppl")]
    follow = [b - a for a, b in change("follow")]
    return Claim(
        "T7",
        "Toxic answers get less likely; instructions are followed at most 3 points less often, with at most 4% more "
        f"clean perplexity ({_claims.TITLES[kind]}, {operator})",
        held=min(gains) > 0 and max(costs) <= 4 and min(follow) >= -3,
        figures=f"toxic NLL {_claims.listed(gains, 3)}; clean perplexity {_claims.listed(costs)}%; followed "
        f"{_claims.listed(follow)} points",
    )
