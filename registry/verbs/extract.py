"""Extract: what fine-tuning changed between two checkpoints, as an adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from registry import checkpoint, methods, peft_format, reference
from registry._difference import Difference
from registry._paths import expanded
from registry._values import BaseValues
from registry.blobs import BlobStore
from registry.catalog import versions
from registry.catalog.database import Database
from registry.catalog.versions import Draft
from registry.checkpoint import BaseCheckpoint
from registry.errors import UsageError
from registry.evaluate import Evaluated
from registry.methods import Method, Site
from registry.results import BaseModelIdentity, Extracted, ModuleReport
from registry.verbs import _content
from registry.verbs._pinning import DTYPES
from registry.verbs._text import check_tags, check_text
from registry.verbs.add import HUB, MAX_BASE, record

Progress = Callable[[str, int, int], None]


def extract(
    database: Database,
    blobs: BlobStore,
    base: str | Path,
    finetuned: str | Path,
    name: str,
    *,
    rank: int | None,
    energy: str | float | None,
    dtype: str | None,
    repo: str | None,
    task: str | None,
    tags: Mapping[str, str],
    license: str | None,  # noqa: A002  (the field's own word)
    note: str | None,
    actor: str,
    progress: Progress | None,
) -> Extracted:
    reference.check_name(name)
    check_tags(tags)
    for what, text in (("task", task), ("license", license), ("note", note)):
        if text is not None:
            check_text(what, text)
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}", hint=f"one of: {', '.join(DTYPES)}")
    truncate = _truncate(rank, energy)
    database.require("versions")
    sides = [_opened(source) for source in (base, finetuned)]
    identity = _identity(sides[0][1], repo)
    kind: Literal["lora", "task_vector"] = "task_vector" if truncate is None else "lora"
    with database.read() as session:
        versions.refuse_early(session, name, kind=kind, base=identity)
    identity = identity.model_copy(update={"fingerprint": sides[0][0].fingerprint()})
    found = Difference(sides[0][0], sides[1][0], kind)
    report: list[ModuleReport] = []

    def once() -> Extracted:
        report.clear()
        with blobs.stage() as stage:
            stored = peft_format.write(
                stage,
                kind=kind,
                modules=_modules(found, truncate, report, progress),
                names=found.layout.modules,
                dtype=dtype or "float32",
                base_model=identity,
                inputs_config=[_config(found, sides[1][0])],
                base=BaseValues(sides[0][0], found.layout.modules, fan_in_fan_out=found.conv1d),
            )
            content = _content.store(blobs, stored, stage)
            draft = Draft(
                name=name,
                content=content,
                base_model=identity,
                actor=actor,
                task=task,
                tags=tags,
                license=license,
                note=note,
                source=f"{sides[1][1]} - {sides[0][1]}".encode("utf-8", "backslashreplace").decode(),
            )
            added = record(database, blobs, draft, ())
        return Extracted(**dict(added), report=tuple(report))

    return _content.again_if_swept(once)


def _truncate(rank: int | None, energy: str | float | None) -> Method | None:
    if rank is not None and energy is not None:
        raise UsageError("--rank and --energy exclude one another", hint="give the one that matters")
    if rank is None and energy is None:
        return None
    return methods.build("truncate", {"rank": rank} if rank is not None else {"energy": str(energy)})


def _opened(source: str | Path) -> tuple[BaseCheckpoint, str]:
    """A checkpoint, and its name for the record."""
    text = str(source)
    if not text.startswith(HUB):
        return checkpoint.open_base(expanded(source)), text
    from registry import hub

    repo, _, revision = text.removeprefix(HUB).partition("@")
    folder, commit = hub.fetch_model(repo, revision or None)
    return checkpoint.open_base(folder), f"{HUB}{repo}@{commit}"


def _identity(source: str, repo: str | None) -> BaseModelIdentity:
    name, _, revision = (repo or source.removeprefix(HUB)).partition("@")
    check_text("base", name, limit=MAX_BASE)
    return BaseModelIdentity(repo=name, revision=revision or None)


def _modules(
    found: Difference, truncate: Method | None, report: list[ModuleReport], progress: Progress | None
) -> Iterator[Evaluated]:
    total = len(found.layout.modules)
    for done, (name, place) in enumerate(found.layout.modules.items(), start=1):
        delta = found.delta(name)
        if truncate is not None:
            merged = truncate.merge([delta], [1.0], Site(name, [name]))
            delta = merged.delta
            if merged.report:
                report.append(ModuleReport(module=name, values=dict(merged.report)))
        yield Evaluated(name, delta, place=place)
        if progress is not None:
            progress("extracting", done, total)


def _config(found: Difference, finetuned: BaseCheckpoint) -> dict[str, Any]:
    """What the result's config takes over: which parameters are whole, and how weights are stored."""
    whole = [place.parameter for place in found.layout.modules.values() if place.form == "whole"]
    owners = sorted({name.rpartition(".")[0] for name in whole if not name.endswith(".bias")})
    named = str((finetuned.config.get("architectures") or [""])[0])
    return {
        "fan_in_fan_out": found.conv1d,
        "modules_to_save": owners,
        "bias": "all",
        "task_type": "CAUSAL_LM" if named.endswith(("ForCausalLM", "LMHeadModel")) else None,
    }
