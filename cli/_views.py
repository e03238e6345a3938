"""How one result looks to a person: a headline where something happened, then its facts."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from . import _tables
from ._parts import Cell, fitting, line, module_summary, panel, short, table, text
from ._text import plural, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console, RenderableType

    from registry.results import (
        Added,
        Check,
        CheckedModule,
        Checkout,
        Composed,
        Conflict,
        Cost,
        Difference,
        Extracted,
        FieldChange,
        Materialized,
        MaterializePlan,
        ModuleChange,
        ModuleConflict,
        Publication,
        Range,
        Schema,
        Unpublished,
        Version,
    )

_MANY = 10
_FEW = 5


def version(result: Version, console: Console) -> Iterator[RenderableType]:
    """Everything known of a version."""
    recipe, revoked = result.recipe, result.revoked
    title = line((result.ref, "bold"), (" (deleted)", "red") if result.deleted_at else "")
    yield panel(
        title,
        [
            ("NOT HELD", None if result.held else text(_known_from(result), "yellow")),
            (
                "REVOKED",
                revoked and text(f"{revoked.reason} ({revoked.by}, {revoked.at:%Y-%m-%d})", "bold red"),
            ),
            ("affected by", text(result.affected_by, "yellow") if result.affected_by else None),
            ("kind", result.kind),
            ("base model", result.base_model),
            ("fingerprint", fitting(result.base_model.fingerprint, console)),
            ("task", result.task),
            ("expression", recipe and recipe.expression),
            ("resolved", recipe and recipe.resolved),
            ("recipe", fitting(recipe.digest, console) if recipe else None),
            ("chosen by", result.sweep and f"sweep {result.sweep}"),
            ("digest", fitting(result.digest, console)),
            ("rank", result.rank),
            ("parameters", f"{result.parameters:,} {result.dtype} in {plural(result.modules, 'module')}"),
            ("size", size(result.size)),
            ("aliases", result.aliases),
            ("tags", result.tags),
            ("license", result.license),
            ("source", result.source),
            ("told by", result.origin),
            ("note", result.note),
            ("not composable", text(result.not_composable, "yellow") if result.not_composable else None),
            ("created", line((result.created_at, ""), " by ", (result.created_by, ""))),
            ("deleted", result.deleted_at),
        ],
    )
    yield from _around(result, console)


def _known_from(result: Version) -> str:
    if result.deleted_at or not (result.source or result.origin):
        return "its bytes are not here"
    return f"known only from {result.source or result.origin}; get it: registry fetch {result.ref}"


def _around(result: Version, console: Console) -> Iterator[RenderableType]:
    """The tables below a version's facts."""
    if result.parents:
        rows = [
            [Cell(p.ref, "bold"), p.coefficient, p.relation, short(p.digest, console)] for p in result.parents
        ]
        yield table(console, ["parent", "coefficient", "relation", "digest"], rows, title="parents")
    if result.evaluations:
        yield _tables.evaluations(result.evaluations, console, title="evaluations")
    if result.publications:
        yield _tables.publications(result.publications, console, title="publications")


def added(result: Added, console: Console) -> Iterator[RenderableType]:
    yield (
        line(("added ", "green"), (result.ref, "bold"))
        if result.created
        else line((result.ref, "bold"), " holds this content already; nothing was added")
    )
    yield from version(result, console)


def extracted(result: Extracted, console: Console) -> Iterator[RenderableType]:
    yield from added(result, console)
    yield from module_summary(console, result.report)


def composed(result: Composed, console: Console) -> Iterator[RenderableType]:
    done = "composed " if result.created else "already composed: "
    how = "taken from the cache, nothing was computed" if result.cached else "computed"
    yield line((done, "green"), (result.ref, "bold"), " = ", result.recipe.resolved if result.recipe else "?")
    if result.recipe:
        yield line("recipe ", (short(result.recipe.digest, console), "cyan"), f", {how}")
    yield line(
        f"{result.kind}, {result.parameters:,} {result.dtype} parameters in ",
        plural(result.modules, "module"),
        f", rank {result.rank}" if result.rank else "",
        f", {size(result.size)}, ",
        (short(result.digest, console), "cyan"),
    )
    yield from _around(result, console)
    yield from module_summary(console, result.report)


def check(result: Check, console: Console) -> Iterator[RenderableType]:
    approximate = sum(not module.exact for module in result.layout)
    yield panel(
        line(("composable", "green")),
        [
            ("expression", result.expression),
            ("resolved", result.resolved),
            ("recipe", fitting(result.recipe_digest, console)),
            ("kind", result.kind),
            ("base model", result.base_model),
            ("rank", result.rank and f"up to {result.rank:,}"),
            (
                "parameters",
                f"up to {result.parameters:,} {result.dtype} in {plural(result.modules, 'module')}",
            ),
            ("shapes", _shapes(result.layout)),
            ("size", f"up to {size(result.size)}"),
            ("adapter", _exactness(approximate) if result.layout else None),
            ("cost", result.cost and _cost(result.cost)),
            ("output", "known already, nothing to compute" if result.cached else "to be computed"),
        ],
    )
    columns = ["input", "coefficient", "kind", "base model", "rank", "parameters", "dtype", "digest"]
    rows = [
        [
            Cell(i.ref, "bold"),
            i.coefficient,
            i.kind,
            i.base_model,
            i.rank,
            i.parameters,
            i.dtype,
            short(i.digest, console),
        ]
        for i in result.inputs
    ]
    yield table(console, columns, rows, spare=["digest", "dtype", "parameters", "kind"])
    if result.conflicts:
        yield from _conflicts(result.conflicts, console)


def _shapes(modules: Sequence[CheckedModule]) -> str:
    """The commonest shapes, with how many modules have them."""
    counts = Counter("×".join(map(str, module.shape)) for module in modules)
    rest = len(counts) - _FEW
    named = [f"{count:,} of {shape}" for shape, count in counts.most_common(_FEW)]
    return ", ".join([*named, *([f"and {plural(rest, 'other')}"] if rest > 0 else [])])


def _exactness(approximate: int) -> str:
    if not approximate:
        return "exact, up to one rounding"
    return f"an approximation of low rank in {plural(approximate, 'module')}; a merged model is exact"


def _cost(cost: Cost) -> str:
    return f"reads {size(cost.read)}, writes up to {size(cost.written)}, {_work(cost.operations)}"


def _work(operations: int) -> str:
    amount, units = float(operations), ["", "k", "M", "G", "T", "P"]
    while amount >= 999.5 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    work = f"{amount:.0f}" if amount >= 10 else f"{amount:.1f}"
    return f"about {work} {units[0]}FLOP"


def _conflicts(conflicts: Sequence[Conflict], console: Console) -> Iterator[RenderableType]:
    """Each pair of inputs, and the modules where their signs agree least."""
    measures = ["cosine", "columns", "rows", "signs agree"]
    rows = [[Cell(f"{c.a}, {c.b}", "bold"), len(c.modules), *map(_range, _measures(c))] for c in conflicts]
    title = "inputs with each other: mean (least to most)"
    yield table(console, ["inputs", "modules", *measures], rows, title=title, spare=["rows", "columns"])
    single = [(c, module) for c in conflicts for module in c.modules]
    single.sort(key=lambda each: 1.0 if each[1].sign_agreement is None else each[1].sign_agreement)
    if single:
        rows = [
            [m.module, Cell(f"{c.a}, {c.b}", "bold"), *(_share(value) for value in _measures(m))]
            for c, m in single[:_FEW]
        ]
        title = "where signs agree least"
        yield table(console, ["module", "inputs", *measures], rows, title=title, spare=["rows", "columns"])
    if len(single) > _FEW:
        yield line((f"and {len(single) - _FEW:,} more; --format json has all", "dim"))
    if any(len(c.modules) < c.common for c in conflicts):
        yield line(("not in all modules that they share; --conflicts compares all", "dim"))


def _measures(of: Conflict | ModuleConflict) -> tuple[Any, ...]:
    return of.cosine, of.column_overlap, of.row_overlap, of.sign_agreement


def _range(measure: Range | None) -> str | None:
    if measure is None:
        return None
    return f"{_share(measure.mean)} ({_share(measure.min)} to {_share(measure.max)})"


def _share(value: float | None) -> str | None:
    return None if value is None else f"{round(value, 3) + 0.0:.3f}"  # no -0.000


def materialized(result: Materialized, console: Console) -> Iterator[RenderableType]:
    how = "known already" if result.cached else "materialized"
    yield panel(
        line((result.ref, "bold"), f" {how} as {result.target}"),
        [
            ("digest", fitting(result.digest, console)),
            ("recipe", fitting(result.recipe_digest, console)),
            ("folder", result.path),
            ("files", f"{plural(len(result.files), 'file')}, {size(result.size)}"),
            ("dtype", result.dtype),
            ("device", result.device),
            ("seconds", f"{result.seconds:.2f}"),
        ],
    )
    yield from _files(result.files, console)
    yield from module_summary(console, result.report)


def plan(result: MaterializePlan, console: Console) -> Iterator[RenderableType]:
    """What materializing would do."""
    copied = result.tensors - result.patched
    whole = sum(result.files.values())
    known = "known and unchanged" if not result.identify else f"reads {size(result.identify)} to know it"
    bound = "arithmetic" if result.bound == "arithmetic" else "reading, hashing and writing"
    yield panel(
        line((result.ref, "bold"), f" as {result.target}: nothing is done yet"),
        [
            ("recipe", fitting(result.recipe_digest, console)),
            ("base model", result.base_model),
            ("base", result.base_path and f"{result.base_path}, {known}"),
            ("patched", f"{plural(result.patched, 'tensor')}, {size(result.patched_bytes)}"),
            ("copied", f"{plural(copied, 'tensor')}, {size(max(0, whole - result.patched_bytes))}"),
            ("reads", size(result.read)),
            ("writes", f"{plural(len(result.files), 'file')}, {size(result.written)}"),
            ("computes", _work(result.operations) if result.operations else "nothing"),
            ("bound by", bound),
            ("dtype", result.dtype),
            ("device", result.device),
        ],
    )
    yield from _files(result.files, console)


def checkout(result: Checkout, console: Console) -> Iterator[RenderableType]:
    which = "" if result.format is None else f" for {result.format}"
    yield line(("wrote ", "green"), (result.ref, "bold"), which, " to ", (result.path, "bold"))
    yield line("digest ", (short(result.digest, console), "cyan"))
    if result.energy is not None and result.energy < 1:
        yield line(f"cut to rank {result.rank}: each module kept {result.energy:.4%} of its energy or more")
    for note in result.notes:
        yield line(note)
    yield from _files(result.files, console)


def _files(files: Mapping[str, int], console: Console) -> Iterator[RenderableType]:
    if files:
        yield table(console, ["file", "bytes"], [[name, count] for name, count in files.items()])


def difference(result: Difference, console: Console) -> Iterator[RenderableType]:
    """Metadata, inputs and modules that differ, the most changed modules first."""
    before, after = result.before, result.after
    yield line((before, "bold"), " → ", (after, "bold"))
    for title, changes in (("metadata", result.fields), ("inputs", result.inputs)):
        if changes:
            rows = [_change(change) for change in changes]
            yield table(console, ["what", before, after], rows, title=title)
    if result.not_compared:
        yield line(("modules not compared: ", "yellow"), result.not_compared)
    if result.modules:
        yield from _modules(result.modules, console)
    elif not (result.fields or result.inputs or result.not_compared):
        yield line("no difference")


def _change(change: FieldChange) -> list[Any]:
    return [change.field, *(_plain(value) for value in (change.before, change.after))]


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _modules(changes: Sequence[ModuleChange], console: Console) -> Iterator[RenderableType]:
    ranked = sorted(
        changes, key=lambda change: -1.0 if change.relative is None else change.relative, reverse=True
    )
    visible = ranked[:_MANY] if console.is_terminal else ranked
    rows = [[c.module, c.before, c.after, c.cosine, c.relative] for c in visible]
    title = f"change of the weights, {plural(len(changes), 'module')}"
    yield table(console, ["module", "‖before‖", "‖after‖", "cosine", "relative"], rows, title=title)
    if len(visible) < len(ranked):
        rest = len(ranked) - len(visible)
        yield line((f"and {plural(rest, 'module')} that changed less; --format json has all", "dim"))


def publication(result: Publication, console: Console) -> Iterator[RenderableType]:
    done = {
        "planned": "would publish ",
        "pending": "begun, outcome not known: ",
        "failed": "not published: ",
        "done": "published " if result.created else "already there, no commit made: ",
        "withdrawn": "unpublished since: ",
    }
    if result.pull_request is not None:
        done |= {
            "planned": "would propose ",
            "done": "proposed " if result.created else "already proposed: ",
        }
    yield panel(
        line((done[result.state], "green"), (result.ref, "bold"), " → ", (result.repo, "bold")),
        [
            ("branch", result.revision),
            ("pull request", result.pull_request or None),
            ("as", result.target),
            ("commit", result.commit),
            ("tag", result.tag),
            ("url", result.url),
            ("published", result.created_at),
        ],
    )
    if result.files:
        rows = [[name, short(digest, console)] for name, digest in result.files.items()]
        yield table(console, ["file", "digest"], rows)


def unpublished(result: Unpublished, console: Console) -> Iterator[RenderableType]:  # noqa: ARG001  (a view's signature)
    done = "deleted " if result.deleted else "took off " if result.changed else "not there any more: "
    yield panel(
        line((done, "green"), (result.repo, "bold")),
        [
            ("versions", ", ".join(result.refs)),
            ("branch", None if result.deleted else result.revision),
            ("reason", result.reason),
            ("kept", ", ".join(result.kept) or None),
            ("commit", result.commit),
            ("url", result.url),
        ],
    )


def schema(result: Schema, console: Console) -> Iterator[RenderableType]:  # noqa: ARG001  (a view's signature)
    bad = "changed by hand" if result.problems else "another release's schema"
    state = line(("up to date", "green")) if result.ok else line((bad, "red"))
    yield panel(
        line(("schema", "bold")),
        [
            ("database", result.url),
            ("current", result.current or "none"),
            ("needed", result.head),
            ("state", state),
            *(("problem", problem) for problem in result.problems),
        ],
    )
