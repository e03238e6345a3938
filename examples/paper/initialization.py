"""What the start of the modules does to ``factors(…)``, and not to the exact sum: the paper's caveat, measured."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from examples.paper import _claims, distribution, encoder
from examples.paper._rows import TRAINED, Claim, folder

NAME = "initialization"
PAIRS = {
    "trained A, one start": ("distribution/mostly-negative", "distribution/mostly-positive"),
    "trained A, two starts": ("distribution/mostly-negative", "initialization/other-start"),
    "frozen A, one start": ("initialization/frozen-negative", "initialization/frozen-positive"),
    "frozen A, two starts": ("initialization/frozen-negative", "initialization/frozen-other-start"),
}
MODULES = ("other-start", "frozen-negative", "frozen-positive", "frozen-other-start")
FROZEN_RATE = 6e-3  # B alone has half the parameters
OTHER = 1000  # added to the seed for the other start


def train(seed: int, work: Path, modules: Path) -> None:
    """The modules of one seed beside those of setting 1, on the same halves."""
    negative, positive = distribution.halves(seed, work)
    for name, half, start, frozen in (
        ("other-start", positive, seed + OTHER, False),
        ("frozen-negative", negative, seed, True),
        ("frozen-positive", positive, seed, True),
        ("frozen-other-start", positive, seed + OTHER, True),
    ):
        rate = FROZEN_RATE if frozen else None
        lesson = encoder.Lesson({"sentiment": half}, seed=seed, start=start, rate=rate, frozen=frozen)
        encoder.train(folder(NAME, "lora", seed, name, modules), "lora", lesson)


@dataclass(frozen=True)
class Start:
    """What merging a pair half and half gave."""

    pair: str
    seed: int
    cosine: float
    """The smallest between the A of the one and the A of the other, over the layers."""
    error: float
    """‖factors − exact‖ / ‖exact‖, of ΔW over all layers."""
    exact: float
    """Accuracy of the exact sum, on the test split."""
    factors: float
    """Accuracy of ``factors(…)``."""


def measure(seed: int, modules: Path = TRAINED) -> list[Start]:
    """Every pair of a seed, composed half and half by both operators."""
    from examples.paper import _run

    found = []
    with tempfile.TemporaryDirectory() as scratch, _run.catalog(Path(scratch) / "home") as catalog:
        for module in sorted({module for pair in PAIRS.values() for module in pair}):
            setting, name = module.split("/")
            encoder.register(catalog, setting, (name,), seed, "lora", modules=modules, task="sentiment")
        for number, (title, pair) in enumerate(PAIRS.items()):
            first, second = (module.split("/")[1] for module in pair)
            text = f"0.5*{first} + 0.5*{second}"
            paths, cosines = {}, []
            for operator, expression in (("exact", text), ("factors", f"factors({text})")):
                made = catalog.compose(f"{operator}-{number}", expression, dtype="float32")
                paths[operator] = Path(scratch) / f"{operator}-{number}"
                catalog.materialize(made, into="adapter", out=paths[operator])
                cosines += [
                    value
                    for module_report in made.report
                    for key, value in module_report.values.items()
                    if key.split(".")[-1] == "init_cosine"
                ]
            exact, factors = (_changes(paths[operator]) for operator in ("exact", "factors"))
            found.append(
                Start(
                    pair=title,
                    seed=seed,
                    cosine=round(min(cosines), 4),
                    error=float(f"{_norm(factors, exact) / _norm(exact):.3g}"),
                    exact=encoder.accuracy(paths["exact"], "sentiment", "test"),
                    factors=encoder.accuracy(paths["factors"], "sentiment", "test"),
                )
            )
    return found


def _changes(folder: Path) -> dict[str, Tensor]:
    """ΔW of each layer of a PEFT folder, of which the scale is folded in."""
    tensors = load_file(folder / "adapter_model.safetensors")
    layers = [name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")]
    return {
        layer: tensors[f"{layer}.lora_B.weight"].double() @ tensors[f"{layer}.lora_A.weight"].double()
        for layer in layers
    }


def _norm(first: dict[str, Tensor], second: dict[str, Tensor] | None = None) -> float:
    """‖first‖, or ‖first − second‖, over all layers."""
    parts = [change if second is None else change - second[layer] for layer, change in first.items()]
    return math.sqrt(sum(float((part**2).sum()) for part in parts))


def claims(found: Sequence[Start]) -> list[Claim]:
    """T6, by pairs that differ in nothing but their start."""
    claims = []
    for training in ("trained A", "frozen A"):
        one, two = (
            [each for each in found if each.pair == f"{training}, {starts}"]
            for starts in ("one start", "two starts")
        )
        claims.append(
            Claim(
                "T6",
                f"With one start, factors is nearer to the exact sum than with two ({training})",
                held=max(each.error for each in one) < min(each.error for each in two),
                figures=f"relative error {_text(one, 'error', 2)} against {_text(two, 'error', 2)}",
            )
        )
        losses = [
            (first.factors - first.exact) - (second.factors - second.exact)
            for first, second in zip(_by_seed(one), _by_seed(two), strict=True)
        ]
        claims.append(
            Claim(
                "T6",
                f"With one start, factors loses less accuracy to the exact sum than with two ({training})",
                held=min(losses) > 0,
                figures=f"less by {_claims.listed(losses)} points",
            )
        )
    sums = {pair: statistics.fmean(each.exact for each in found if each.pair == pair) for pair in PAIRS}
    frozen, trained = (
        abs(sums[f"{training}, one start"] - sums[f"{training}, two starts"])
        for training in ("frozen A", "trained A")
    )
    claims.append(
        Claim(
            "T6",
            "The exact sum does not care about the start (means differ by less than 1.5 points)",
            held=max(frozen, trained) < 1.5,
            figures=f"differ by {trained:.1f} points with trained A, {frozen:.1f} with frozen A",
        )
    )
    return claims


def section(found: Sequence[Start]) -> str:
    """A table of the pairs, for the page."""
    lines = [
        "## Initialization",
        "",
        "What does the start of the modules do to a sum of factors? The two modules of setting 1 (LoRA) are added half and",
        "half, once as trained from one initialization and once from two. So are modules whose A was never trained: there",
        "`factors` is exact if the start is one. The cosine is the smallest between two A's of a layer; the error is",
        "‖factors − exact‖ / ‖exact‖ of ΔW over all layers.",
        "",
        "| pair | cosine of the A's | relative error | exact, accuracy % | factors, accuracy % |",
        "| --- | --- | --- | --- | --- |",
    ]
    for pair in PAIRS:
        rows = [each for each in found if each.pair == pair]
        cells = [_text(rows, "cosine", 2), _text(rows, "error", 2), _text(rows, "exact", 1)]
        lines.append(f"| {pair} | " + " | ".join([*cells, _text(rows, "factors", 1)]) + " |")
    trained = next(each for each in PAIRS if each.startswith("trained A, one"))
    cosine = _text([each for each in found if each.pair == trained], "cosine", 2)
    lines += [
        "",
        f"From one start the A's begin with a cosine of 1, and training leaves {cosine} of it at this learning rate. Factors",
        'that were trained this far from their start have no common start any more to profit from: "the same initialization"',
        "is a promise about modules whose A hardly moves. The exact sum has no cross terms, whatever the start.",
    ]
    return "\n".join([*lines, ""])


def _text(found: Sequence[Start], field: str, digits: int) -> str:
    return _claims.shown([getattr(each, field) for each in _by_seed(found)], digits)


def _by_seed(found: Sequence[Start]) -> list[Start]:
    return sorted(found, key=lambda each: each.seed)
