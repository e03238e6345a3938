"""``docs/paper.md``: what was measured, as tables, plots and claims. The same figures give the same page."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from examples.paper import _acceptance, _run, corpora, initialization, writing
from examples.paper._claims import TITLES, operators, shown, values
from examples.paper._rows import KINDS, Claim, Kind, Metric, Operator, Row, Setting

CLAIMS = {
    "T1": "Composed modules beat each of them where the test covers what both saw",
    "T2": "Over λ the metric is smooth, and its best is inside",
    "T3": "A multi-task composition has the best average, a little below each specialist",
    "T4": "Negation lowers the behaviour at a small cost elsewhere",
    "T5": "The analogy makes a module for a domain that the task was not seen in",
    "T6": "Composing LoRA's factors wants one initialization",
    "T7": "Detoxifying an instruction module keeps its helpfulness",
    "A1": "The algebra is what it should be",
    "A2": "Distribution generalization",
    "A3": "Multi-tasking",
    "A4": "Unlearning",
    "A5": "Domain transfer of a style",
    "A6": "Detoxifying",
}
"""T: what the paper says. A: what a prototype of this page had led to expect, with its thresholds."""

HEAD = """# The paper's five settings, in small

The operators of this project come from *Composing Parameter-Efficient Modules with Arithmetic Operations* (Zhang, Chen,
Liu & He, NeurIPS 2023, arXiv 2306.14870). The paper tries them in five settings, on models from RoBERTa-base to LLaMA-7B.
This page tries the same settings with models of a few million parameters, on a processor, with nothing but what comes in
packages. The effects here are directions, not magnitudes: what a small model shows need not hold for a large one, and
what it does not show may.

```
python -m examples.paper --from-trained             # evaluate the kept modules and their compositions, write this page
python -m examples.paper --from-trained --curves    # the same, and every λ on the validation split
python -m examples.paper --fetch --train            # train all modules first: see "Run it again" below
```

Each setting trains its modules with three seeds: a seed is the initialization, the order and the draw of the data. Every
figure is the mean over the seeds ± their standard deviation; a figure without ± is the same for all of them. λ is chosen
on a validation split, once for each setting, kind and operator, by the mean over the seeds, and then reported on a test
split that nothing else was chosen on. Documents, not sentences, are split, and a sentence that occurs twice is used once.
The test sets are small, so that all of this takes a minute: of an accuracy near 75% on 200 sentences the standard error is
3 points, and ± says nothing of that, since all seeds are tested on the same sentences. Figures are measured in float32.

"Exact" is this project's sum of weight changes, `0.5*a + 0.5*b`. "Factors" is the paper's own sum of LoRA's A and B,
`factors(0.5*a + 0.5*b)`. For (IA)³ the two are one. Each composition is made with `Registry.compose`, written with
`Registry.materialize`, and evaluated from the written folder; the grid of λ is a `Registry.sweep`.
"""


def page(measured: _run.Measured) -> str:
    """The whole page, of the figures alone."""
    names = [name for name in _run.NAMES if any(row.setting == name for row in measured.rows)]
    settings = [(_run.setting(name), [row for row in measured.rows if row.setting == name]) for name in names]
    # Of a setting that was measured in part nothing is claimed.
    whole = [(setting, rows) for setting, rows in settings if _both(setting, rows)]
    found = [claim for setting, rows in whole for claim in setting.claims(rows)]
    if measured.starts:
        found += initialization.claims(measured.starts)
    names_of_whole = {setting.NAME for setting, _ in whole}
    found += writing.claims([each for each in measured.written if each.setting in names_of_whole])
    found += _acceptance.claims([row for _, rows in whole for row in rows], measured.starts)
    parts = [
        HEAD,
        *(_setting(setting, rows) for setting, rows in settings),
        initialization.section(measured.starts) if measured.starts else "",
        writing.section(measured.written) if measured.written else "",
        _claims(found),
        _again(),
    ]
    return "\n".join(part for part in parts if part)


def _both(setting: Setting, rows: Sequence[Row]) -> bool:
    """Whether every kind was measured that the setting has."""
    return setting.NAME in _run.LORA_ONLY or len(kinds(rows)) == len(KINDS)


# --- a setting


def _setting(setting: Setting, rows: Sequence[Row]) -> str:
    lines = [
        f"## {setting.NUMBER}. {setting.TITLE}",
        "",
        setting.QUESTION,
        "",
        setting.SETUP,
        "",
        f"Composition: `{setting.COMPOSITION.replace('{w}', 'λ').replace('{1-w}', '(1 − λ)')}`.",
        "",
    ]
    for kind in kinds(rows):
        lines += [*_table(setting, kind, rows), ""]
    figure = f"![{setting.TITLE}: {setting.METRICS[0].title} over λ](images/{image(setting)})"
    caption = "The validation split over λ: mean and standard deviation over the seeds. Dotted is the chosen λ, dashed the base model."
    if remark := getattr(setting, "REMARK", ""):
        lines += [remark, ""]
    return "\n".join([*lines, figure, "", caption, ""])


def _table(setting: Setting, kind: Kind, rows: Sequence[Row]) -> Iterator[str]:
    yield f"| {TITLES[kind]} | operator | λ | " + " | ".join(each.title for each in setting.METRICS) + " |"
    yield "| --- | --- | --- |" + " --- |" * len(setting.METRICS)
    for what in ("base", *setting.MODULES, "composition", *setting.OTHERS, "reference"):
        for operator in operators(kind) if what in ("composition", *setting.OTHERS) else (None,):
            yield from _line(setting, kind, rows, what, operator)


def _line(
    setting: Setting, kind: Kind, rows: Sequence[Row], what: str, operator: Operator | None
) -> Iterator[str]:
    found = [
        row for row in rows if (row.kind, row.what, row.operator, row.split) == (kind, what, operator, "test")
    ]
    if not found:
        return
    title = {"base": "base model", "reference": f"{setting.REFERENCE} (reference)"}.get(what, what)
    if what in setting.OTHERS:
        title = f"`{setting.OTHERS[what]}`"
    cells = [
        shown(values(found, kind, what, metric.name, operator), metric.digits) for metric in setting.METRICS
    ]
    yield f"| {title} | {operator or ''} | {found[0].weight or ''} | " + " | ".join(cells) + " |"


# --- plots


def draw(measured: _run.Measured, folder: Path) -> None:
    """A plot of each setting's metrics over λ, on the validation split, with the chosen λ marked."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _run.NAMES:
        rows = [row for row in measured.rows if row.setting == name]
        if any(row.split == "validation" and row.what == "composition" for row in rows):
            _plot(_run.setting(name), rows, folder / image(_run.setting(name)))


def kinds(rows: Sequence[Row]) -> list[Kind]:
    """Those that were measured."""
    return [kind for kind in KINDS if any(row.kind == kind for row in rows)]


def image(setting: Setting) -> str:
    return f"paper-{setting.NAME}.svg"


def _plot(setting: Setting, rows: Sequence[Row], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "paper", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot as plt

    metrics, columns = setting.METRICS[:3], kinds(rows)
    size = (3.75 * len(columns), 2.3 * len(metrics))
    figure, panels = plt.subplots(
        len(metrics), len(columns), figsize=size, squeeze=False, sharex=True, sharey="row"
    )
    for line, metric in zip(panels, metrics, strict=True):
        for panel, kind in zip(line, columns, strict=True):
            _panel(panel, setting, kind, metric, rows)
        line[0].set_ylabel(metric.title)
    for panel, kind in zip(panels[0], columns, strict=True):
        panel.set_title(TITLES[kind])
    for panel in panels[-1]:
        panel.set_xlabel("λ")
    panels[0][0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    # matplotlib ends lines with blanks.
    path.write_text("\n".join(map(str.rstrip, path.read_text("utf-8").splitlines())) + "\n", "utf-8")


def _panel(panel: object, setting: Setting, kind: Kind, metric: Metric, rows: Sequence[Row]) -> None:
    from matplotlib.axes import Axes

    assert isinstance(panel, Axes)  # noqa: S101
    chosen = _run.choose(setting.NAME, kind, rows)
    weights = [float(weight) for weight in setting.GRID]
    for operator, colour in zip(operators(kind), ("tab:blue", "tab:orange"), strict=False):
        points = [
            values(rows, kind, "composition", metric.name, operator, split="validation", weight=weight)
            for weight in setting.GRID
        ]
        means = [statistics.fmean(found) for found in points]
        spreads = [statistics.stdev(found) if len(found) > 1 else 0.0 for found in points]
        low = [centre - width for centre, width in zip(means, spreads, strict=True)]
        high = [centre + width for centre, width in zip(means, spreads, strict=True)]
        panel.plot(weights, means, color=colour, marker=".", label=operator)
        panel.fill_between(weights, low, high, color=colour, alpha=0.15, linewidth=0)
        panel.axvline(float(chosen[operator]), color=colour, linestyle=":", linewidth=1)
    base = values(rows, kind, "base", metric.name, split="validation")
    panel.axhline(statistics.fmean(base), color="grey", linewidth=0.8, linestyle="--")


# --- what is said at the end


def _claims(found: Sequence[Claim]) -> str:
    lines = [
        "## The paper's claims",
        "",
        "Each claim was put to the figures above as its line says. A claim that compares with a module holds only if it",
        "holds for every seed; thresholds are in the code of the settings. T1 to T7 are the paper's. A1 to A6 are what a",
        "prototype of this page had led to expect of the same settings; their thresholds were set before these modules were",
        "trained. A λ that was not chosen is read on the validation split.",
        "",
        "| | claim, and what it was tried on | result | figures |",
        "| --- | --- | --- | --- |",
    ]
    words = {True: "held", False: "**did not hold**", None: "not tried"}
    for number, title in CLAIMS.items():
        tried = [claim for claim in found if claim.number == number]
        result = _summary(tried)
        lines.append(f"| {number} | **{title}** | {result} | |")
        lines += [f"| | {each.text} | {words[each.held]} | {each.figures} |" for each in tried]
    return "\n".join([*lines, ""])


def _summary(tried: Sequence[Claim]) -> str:
    held = sum(claim.held is True for claim in tried)
    count = sum(claim.held is not None for claim in tried)
    if not count:
        return "not tried here"
    word = "held" if held == count else "held in part" if held else "did not hold"
    return f"{word}: {held} of {count}"


def _again() -> str:
    lines = [
        "## Run it again",
        "",
        "`pip install 'adapter-registry[paper]'`, in a checkout of the project. The kept modules are in",
        "`examples/paper/trained`, the held-out sentences in `examples/paper/evaluation`, and the figures, curves",
        "included, in `examples/paper/measured.json`; all of them are MIT licensed, as what they were made from is.",
        "`--from-trained` computes the tables anew at the λ that the kept curves choose, in bfloat16 where the processor has",
        "it, and puts each figure beside the kept one. It ends with 1 where one is farther off than rounding explains: 2 points",
        "of an accuracy, 3 of the instructions followed, 0.005 of a likelihood, 0.5 of a perplexity; else the page stays as it is.",
        "`--curves` computes the curves too, all in float32, and keeps what it finds.",
        "",
        "Training is seeded, and goes on where it was stopped. `--fetch --train --into DIR` trains all modules in a folder of your",
        "own, with their figures and page, and leaves those of the project as they are; the small language model and the held-out",
        "sentences are the project's. It needs `pip install 'adapter-registry[paper-train]'`. Modules that are trained again are not",
        "the same to the last bit. Twice all of them were, by that command, in 15.5 and 24.5 minutes on two cores: each λ and each claim",
        "above came out as with the kept ones, and no mean over the seeds moved by more than 0.2 points of an accuracy, a point of the",
        "instructions followed, 0.0006 of a likelihood, 0.2 of a perplexity or 0.002 of a toxicity. `--from-trained` takes 53 to 62",
        "seconds there. It samples nothing: another rounding soon writes another text.",
        "",
        "The texts are fetched by `pip` and `npm` and checked against their digests. What is in them is not ours, and none of",
        "it is committed but the held-out sentences:",
        "",
        "| package | texts | license |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| `{each.name}` ({each.client}) | {each.content} | {each.license} |" for each in corpora.PACKAGES
    ]
    return "\n".join([*lines, ""])
