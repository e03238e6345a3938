"""``registry similar``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from registry.errors import UsageError

from ._options import common, open_registry
from ._parts import Cell, line, table
from ._render import emit, mode, progress, say, warn
from ._text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, RenderableType

    from registry.results import Duplicates, LeftOut, Similar, SimilarVersion, Sketched

_NAMED = 3
_TAKES = {
    "REF": ("--limit", "--min", "--exact", "--estimated", "--opposite", "--versions", "--where"),
    "--duplicates": ("--min", "--versions", "--where", "--base"),
    "--prepare": (),
}


@click.command("similar")
@click.argument("ref", required=False)
@click.option("--duplicates", is_flag=True, help="Find what is in the catalog more than once instead.")
@click.option("--prepare", is_flag=True, help="Make all sketches that are missing instead.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="How many to show, by default 10.")
@click.option(
    "--min",
    "minimum",
    type=click.FloatRange(-1, 1),
    metavar="C",
    help="Show no lower cosine; of duplicates by default 0.9999.",
)
@click.option(
    "--exact/--estimated", default=None, help="Compute all that are shown from their factors, or none."
)
@click.option("--opposite", is_flag=True, help="Rank from -1 on: what takes away what REF adds.")
@click.option("--versions", is_flag=True, help="All versions, not only the latest of each adapter.")
@click.option("--where", metavar="FILTER", help="Only versions that fit; see registry list --help.")
@click.option("--base", metavar="REPO[@REVISION]", help="With --duplicates: only on this base model.")
@common
def command(
    *,
    ref: str | None,
    duplicates: bool,
    prepare: bool,
    limit: int | None,
    minimum: float | None,
    exact: bool | None,
    opposite: bool,
    versions: bool,
    where: str | None,
    base: str | None,
) -> None:
    """Rank adapters by how alike REF they change the model.

    By the cosine of their whole weight changes, on the same base model: 1 is the same direction, 0 unrelated, -1 the
    opposite. All are ranked by sketches, which are made when they are first needed and kept; the best 40 are computed
    from their factors.

    For example:

      registry similar toxic --min 0.5

      registry similar --duplicates
    """
    said = {
        "--limit": limit is not None,
        "--min": minimum is not None,
        "--exact": exact is True,
        "--estimated": exact is False,
        "--opposite": opposite,
        "--versions": versions,
        "--where": where is not None,
        "--base": base is not None,
    }
    _check(_asked(ref, duplicates=duplicates, prepare=prepare), [option for option in said if said[option]])
    with open_registry() as catalog, progress() as bar:
        if ref is not None:
            found = catalog.similar(
                ref,
                limit=10 if limit is None else limit,
                minimum=minimum,
                exact=exact,
                opposite=opposite,
                versions=versions,
                filter=where,
                progress=bar,
            )
        elif duplicates:
            groups = catalog.duplicates(
                base=base,
                minimum=0.9999 if minimum is None else minimum,
                versions=versions,
                filter=where,
                progress=bar,
            )
        else:
            made = catalog.sketch(progress=bar)
    if ref is not None:
        _tell(found)
    elif duplicates:
        _tell_groups(groups)
    else:
        _left_out(made.left_out)
        emit(made, _made, quiet=lambda result: [str(result.made)])


def _asked(ref: str | None, *, duplicates: bool, prepare: bool) -> str:
    """What is asked: one of the three."""
    asked = {"REF": ref is not None, "--duplicates": duplicates, "--prepare": prepare}
    if [*asked.values()].count(True) != 1:
        raise UsageError(
            "give either a REF, or --duplicates, or --prepare", hint="for example: registry similar toxic"
        )
    return next(each for each in asked if asked[each])


def _check(asked: str, said: Sequence[str]) -> None:
    """Raise ``UsageError`` for an option that says nothing about what is asked."""
    for option in said:
        if option not in _TAKES[asked]:
            fit = [each for each, options in _TAKES.items() if option in options]
            raise UsageError(f"{option} is not for {asked}", hint=f"it is for: {', '.join(fit)}")


def _tell(found: Similar) -> None:
    warn(found.warnings)
    _left_out(found.left_out)
    if found.partial:
        say(f"not compared of {found.ref}: {found.partial}")
    if not found.versions and mode() == "human":
        say(f"{plural(found.compared, 'version')} compared with {found.ref}: none is that similar")
    emit(found, _ranked, quiet=lambda result: [each.ref for each in result.versions])


def _tell_groups(found: Duplicates) -> None:
    warn(found.warnings)
    _left_out(found.left_out)
    if not found.groups:
        say(f"{plural(found.compared, 'version')} compared: none is there twice")
    emit(
        found,
        _grouped,
        quiet=lambda result: [
            ref for group in result.groups for ref in (group.ref, *(v.ref for v in group.versions))
        ],
    )


def _left_out(left_out: Sequence[LeftOut]) -> None:
    """A line for each reason."""
    reasons: dict[str, list[str]] = {}
    for each in left_out:
        reasons.setdefault(each.reason, []).append(each.ref)
    for reason, refs in reasons.items():
        more = f" and {len(refs) - _NAMED} more" if len(refs) > _NAMED else ""
        say(f"not compared: {', '.join(refs[:_NAMED])}{more}: {reason}")


def _ranked(found: Similar, console: Console) -> Iterator[RenderableType]:
    if found.versions:
        columns = ["version", "cosine", "relation", "lineage", "task", "not compared"]
        yield table(console, columns, [_row(each) for each in found.versions], prose=["not compared"])


def _grouped(found: Duplicates, console: Console) -> Iterator[RenderableType]:
    rows = [[Cell(group.ref, "bold"), *_row(each)] for group in found.groups for each in group.versions]
    if rows:
        columns = ["oldest", "version", "cosine", "relation", "lineage", "task", "not compared"]
        yield table(console, columns, rows, prose=["not compared"])


def _row(each: SimilarVersion) -> list[object]:
    return [Cell(each.ref, "bold"), _cosine(each), _relation(each), each.lineage, each.task, each.partial]


def _cosine(each: SimilarVersion) -> str:
    """To as many digits as mean something; what is not 1 is not shown as 1."""
    if not each.exact:
        return f"{each.cosine:.3f} ± {each.error:.3f}"
    shown = f"{each.cosine:.4f}"
    return f"{each.cosine:.8f}" if abs(each.cosine) < 1 and abs(float(shown)) == 1 else shown


def _relation(each: SimilarVersion) -> str | None:
    if each.relation == "scaled":
        return f"scaled by {each.factor:.6g}"
    return "same ΔW" if each.relation == "same delta" else each.relation


def _made(result: Sketched, _: Console) -> Iterator[RenderableType]:
    yield line((result.made, "cyan"), f" made, {result.total} there")
