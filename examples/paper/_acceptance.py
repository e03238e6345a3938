"""Acceptance: what a miniature has to show if the operators are right, by thresholds that a prototype had set before.

A claim about a λ that was not chosen is read on the validation split, which has all of them. There the ends of a grid
from 0 to 1 are the modules alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from examples.paper import initialization, unlearning
from examples.paper._claims import TITLES, listed, mean, shown, values
from examples.paper._rows import KINDS, Claim, Kind, Row

TENTHS = tuple(f"{tenth / 10:g}" for tenth in range(11))
WANTED: Mapping[Kind, int] = {"lora": 3, "ia3": 4}
MARGIN = 0.05
QUARTERS = ("0", "0.25", "0.5", "0.75", "1")


def claims(rows: Sequence[Row], starts: Sequence[initialization.Start]) -> list[Claim]:
    """A1 to A6, each only of settings that were measured."""
    by_setting = {
        name: [row for row in rows if row.setting == name] for name in {row.setting for row in rows}
    }
    found = list(_algebra(by_setting.get("unlearning", ()), starts))
    for name, claim in (
        ("distribution", _distribution),
        ("multitask", _multitask),
        ("unlearning", _unlearning),
        ("transfer", _transfer),
        ("detox", _detox),
    ):
        if name in by_setting:
            found += claim(by_setting[name])
    return found


def _algebra(rows: Sequence[Row], starts: Sequence[initialization.Start]) -> Iterator[Claim]:
    """A1, as far as figures show it; that the operators obey their laws is for tests of the arithmetic."""
    if rows:
        metrics = ("toxic_nll", "clean_ppl")
        exact, factors = (
            [value for metric in metrics for value in values(rows, "lora", "full", metric, operator)]
            for operator in ("exact", "factors")
        )
        apart = max(abs(a - b) for a, b in zip(exact, factors, strict=True))
        yield Claim(
            "A1",
            "One LoRA module is negated alike by one factor and by the whole change (toxic NLL and clean perplexity, "
            "within 0.001)",
            held=apart <= 1e-3,
            figures=f"apart by at most {apart:.4f}",
        )
    one, two = (
        [each.error for each in starts if each.pair == f"frozen A, {number}"]
        for number in ("one start", "two starts")
    )
    if one and two:
        yield Claim(
            "A1",
            "Factors are exact where a frozen A is shared (relative error below 0.000001), and far off where it is not "
            "(above 0.3)",
            held=max(one) < 1e-6 and min(two) > 0.3,
            figures=f"at most {max(one):.7f}; at least {min(two):.2f}",
        )


def _distribution(rows: Sequence[Row]) -> Iterator[Claim]:
    for kind, wanted in WANTED.items():
        together = values(rows, kind, "composition", "accuracy", "exact")
        alone = (values(rows, kind, name, "accuracy") for name in ("mostly-negative", "mostly-positive"))
        gains = _differences(together, [max(pair) for pair in zip(*alone, strict=True)])
        yield Claim(
            "A2",
            f"At least {wanted} points above the better module ({TITLES[kind]}, exact)",
            held=min(gains) >= wanted,
            figures=f"{listed(gains)} points",
        )
        short = _differences(together, values(rows, kind, "reference", "accuracy"))
        yield Claim(
            "A2",
            f"Within 3 points of training on both halves ({TITLES[kind]}, exact)",
            held=min(short) >= -3,
            figures=f"{listed(short)} points",
        )
        middle, *ends = (_curve(rows, kind, "accuracy", weight) for weight in ("0.5", "0", "1"))
        gains = _differences(middle, [max(pair) for pair in zip(*ends, strict=True)])
        yield Claim(
            "A2",
            f"λ = 0.5 is better than both ends ({TITLES[kind]}, exact, validation)",
            held=min(gains) > 0,
            figures=f"{listed(gains)} points",
        )


def _multitask(rows: Sequence[Row]) -> Iterator[Claim]:
    for kind in KINDS:
        alone = (values(rows, kind, name, "average") for name in ("sentiment", "genre"))
        best = [max(pair) for pair in zip(*alone, strict=True)]
        gains = _differences(values(rows, kind, "sum", "average", "exact"), best)
        yield Claim(
            "A3",
            f"The plain sum is at least 2 points above the better module ({TITLES[kind]}, exact)",
            held=min(gains) >= 2,
            figures=f"{listed(gains)} points",
        )
    middle, *ends = (_curve(rows, "lora", "average", weight) for weight in ("0.5", "0", "1"))
    gains = _differences(middle, [max(pair) for pair in zip(*ends, strict=True)])
    yield Claim(
        "A3",
        "λ = 0.5 is at least 1 point above the better module (LoRA, exact, validation)",
        held=min(gains) >= 1,
        figures=f"{listed(gains)} points",
    )


def _unlearning(rows: Sequence[Row]) -> Iterator[Claim]:
    for kind in KINDS:
        curves = {
            metric: [_curve(rows, kind, metric, weight) for weight in QUARTERS]
            for metric in ("toxic_nll", "clean_ppl", "margin")
        }
        growing = all(
            all(a < b for a, b in zip(before, after, strict=True))
            for metric in ("toxic_nll", "margin")
            for before, after in pairwise(curves[metric])
        )
        yield Claim(
            "A4",
            f"Toxic NLL and margin grow from λ = 0 to 1 in quarters, for each seed ({TITLES[kind]}, exact, validation)",
            held=growing,
            figures="margin " + " ".join(f"{sum(each) / len(each):.3f}" for each in curves["margin"]),
        )
        for weight, metric, text, least, most in (
            ("0.5", "toxic_nll", "toxic NLL at least 0.05 higher", 0.05, 5),
            ("1", "margin", "margin at least 0.08 wider", 0.08, 15),
        ):
            at, none = QUARTERS.index(weight), QUARTERS.index("0")
            gains = _differences(curves[metric][at], curves[metric][none])
            costs = _percent(curves["clean_ppl"][at], curves["clean_ppl"][none])
            yield Claim(
                "A4",
                f"λ = {weight}: {text}, clean perplexity at most {most}% higher ({TITLES[kind]}, exact, validation)",
                held=min(gains) >= least and max(costs) <= most,
                figures=f"{listed(gains, 3)}; {listed(costs)}%",
            )
    lora, ia3 = (unlearning.costs(rows, kind, "margin", MARGIN) for kind in KINDS)
    yield Claim(
        "A4",
        f"(IA)³ costs at most what LoRA costs of clean perplexity where each widens the margin by {MARGIN} (exact, "
        "validation)",
        held=all(ours <= theirs for ours, theirs in zip(ia3, lora, strict=True)),
        figures=f"LoRA {shown(lora, 2)}%, (IA)³ {shown(ia3, 2)}%",
    )


def _transfer(rows: Sequence[Row]) -> Iterator[Claim]:
    for kind in KINDS:
        ours = values(rows, kind, "composition", "ppl", "exact")
        alone = (values(rows, kind, what, "ppl") for what in ("base", "prose-questions", "tweets"))
        gains = _differences(ours, [min(each) for each in zip(*alone, strict=True)])
        curve = [
            mean(rows, kind, "composition", "ppl", "exact", split="validation", weight=w) for w in TENTHS
        ]
        best = TENTHS[curve.index(min(curve))]
        yield Claim(
            "A5",
            "The analogy has less perplexity than the base model, the module of the task and that of the tweets, and its "
            f"best λ is inside ({TITLES[kind]}, exact)",
            held=max(gains) < 0 and best not in (TENTHS[0], TENTHS[-1]),
            figures=f"{listed(gains, 2)}; λ = {best}",
        )
    full = values(rows, "lora", "full", "ppl", "factors")
    base = values(rows, "lora", "base", "ppl")
    yield Claim(
        "A5",
        "With weights of 1 the factors are a hazard: more perplexity than the base model (LoRA)",
        held=min(_differences(full, base)) > 0,
        figures=f"{shown(full)} against {shown(base)}",
    )


def _detox(rows: Sequence[Row]) -> Iterator[Claim]:
    for kind in KINDS:
        nll, follow, clean = (
            [_curve(rows, kind, metric, weight) for weight in ("0", "0.5")]
            for metric in ("toxic_nll", "follow", "clean_ppl")
        )
        nats, points = _differences(nll[1], nll[0]), _differences(follow[1], follow[0])
        costs = _percent(clean[1], clean[0])
        yield Claim(
            "A6",
            "λ = 0.5: toxic NLL at least 0.03 higher, instructions followed at most 3 points less often, clean perplexity "
            f"at most 3% higher ({TITLES[kind]}, exact, validation)",
            held=min(nats) >= 0.03 and min(points) >= -3 and max(costs) <= 3,
            figures=f"{listed(nats, 3)}; {listed(points)} points; {listed(costs)}%",
        )
    full = values(rows, "lora", "full", "clean_ppl", "factors")
    times = [
        after / before
        for after, before in zip(full, values(rows, "lora", "instruct", "clean_ppl"), strict=True)
    ]
    yield Claim(
        "A6",
        "At full weight the factors are a hazard: more than 1.5 times the clean perplexity of the module (LoRA)",
        held=min(times) > 1.5,
        figures=" ".join(f"{each:.2f}" for each in times) + " times",
    )


# --- figures of each seed


def _curve(rows: Sequence[Row], kind: Kind, metric: str, weight: str) -> list[float]:
    """The exact composition at a λ on the validation split."""
    return values(rows, kind, "composition", metric, "exact", split="validation", weight=weight)


def _differences(after: Sequence[float], before: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(after, before, strict=True)]


def _percent(after: Sequence[float], before: Sequence[float]) -> list[float]:
    """By how many percent each is more."""
    return [100 * (a / b - 1) for a, b in zip(after, before, strict=True)]
