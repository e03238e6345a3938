"""``registry sweep``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from registry.errors import RegistryError

from . import _options as options
from ._group import Signed
from ._render import emit, progress, say, warn
from ._sweeps import sweep_parts

if TYPE_CHECKING:
    from registry.results import Sweep


@click.command("sweep", cls=Signed)
@click.argument("name")
@click.argument("expression")
@click.option(
    "--over",
    type=options.key_value,
    multiple=True,
    required=True,
    callback=options.as_mapping,
    metavar="VAR=VALUES",
    help="Values: w=0:1:0.1 or w=0.1,0.3,1; repeatable.",
)
@options.running
@click.option(
    "--evaluator-version", metavar="TEXT", help="Its version: another one measures everything again."
)
@click.option(
    "--metric",
    multiple=True,
    required=True,
    metavar="NAME[:min|max]",
    help="What decides; repeatable, the first first.",
)
@click.option("--minimize/--maximize", default=None, help="What is better, where --metric does not say.")
@click.option("--constrain", multiple=True, metavar="CONDITION", help="Such as 'ppl < 21'; repeatable.")
@click.option(
    "--search",
    type=click.Choice(["grid", "bayes"]),
    default="grid",
    show_default=True,
    help="How points are chosen.",
)
@click.option("--budget", type=click.IntRange(min=1), metavar="N", help="Points of a search.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of the search, and of random methods."
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    metavar="N",
    help="Evaluations at once.",
)
@options.measured_on
@click.option("--no-version", is_flag=True, help="Only measure.")
@click.option("--again", is_flag=True, help="Measure also what is known.")
@click.option("--dry-run", is_flag=True, help="List the points, and which are known.")
@options.rank
@options.energy
@options.dtype("Data type of the points, by default that of the inputs.")
@options.device
@options.base_values
@options.common
def command(
    *,
    name: str,
    expression: str,
    over: dict[str, str],
    run: str,
    timeout: float | None,
    retries: int,
    evaluator_version: str | None,
    metric: tuple[str, ...],
    minimize: bool | None,
    constrain: tuple[str, ...],
    search: str,
    budget: int | None,
    seed: int,
    jobs: int,
    dataset: str,
    split: str | None,
    no_version: bool,
    again: bool,
    dry_run: bool,
    rank: int | None,
    energy: str | None,
    dtype: str | None,
    device: str,
    base_path: str | None,
) -> None:
    """Measure EXPRESSION at many values; keep the best as NAME.

    Variables stand in braces: {w}, or {1-w} for what it lacks to 1. What was measured before by the same command is not
    measured again, and the same command goes on where it was interrupted.

    For example:

      registry sweep detox "alpaca - {w}*toxic" --over w=0:1:0.1 --run 'python eval.py {path}'
      --metric toxicity --minimize --constrain 'ppl < 21'
    """
    options.refuse_both(rank, energy)
    with options.open_registry() as catalog, progress() as bar:
        result = catalog.sweep(
            name, expression, over=over, run=run, evaluator=evaluator_version, metric=metric, minimize=minimize,
            constrain=constrain, search="bayes" if search == "bayes" else "grid", budget=budget, seed=seed, jobs=jobs,
            timeout=timeout, retries=retries, dataset=dataset, split=split, record=not no_version, again=again,
            dry_run=dry_run, rank=rank, energy=energy, dtype=dtype, device=device, base_path=base_path, progress=bar,
        )  # fmt: skip
    warn(result.warnings)
    emit(result, sweep_parts, quiet=lambda sweep: [sweep.ref] if sweep.ref else [])
    if not dry_run:
        _conclude(result)


def _conclude(result: Sweep) -> None:
    """Say what became of it; an error where nothing did."""
    if result.chosen is None:
        raise RegistryError(f"no point of sweep {result.id} is good enough", hint=result.advice)
    if result.failed:
        say(f"{result.failed} of {len(result.points)} points failed; the same command tries them again")
