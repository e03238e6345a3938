"""Diff: two versions side by side, down to the change of each module's delta."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from registry import deltas, reference
from registry.blobs import BlobStore
from registry.catalog import artifacts, references, views
from registry.catalog.artifacts import File
from registry.catalog.database import Database
from registry.catalog.references import Pin
from registry.errors import Incompatible
from registry.inputs import check_compatible, delta_of, space
from registry.peft_format import StoredAdapter
from registry.recipe import Call, Sum
from registry.results import Difference, FieldChange, ModuleChange, Version
from registry.verbs import _content
from registry.verbs._grounds import ground, needing

_FIELDS = ("kind", "task", "base_model", "digest", "rank", "parameters", "dtype", "license", "note", "tags")


@_content.unless_swept
def diff(
    database: Database, blobs: BlobStore, before: str, after: str, *, base_path: str | Path | None = None
) -> Difference:
    """Deleted versions are compared, too, their weights as long as their bytes are here."""
    with database.read() as session:
        pins = [references.resolve(session, reference.parse(ref), deleted=True) for ref in (before, after)]
        one, other = views.versions(session, [pins[0].id, pins[1].id])
        files = [_content.files_of(session, pin.digest, pin.ref) for pin in pins]
        recipes = [_recipe(session, pin) for pin in pins]
    reason = _not_comparable(one, other)
    for pin, held in zip(pins, files, strict=True):
        if reason is None and pin.deleted and not _is_here(blobs, held):
            reason = f"{pin.ref} was deleted, and its bytes are gone"
    modules: tuple[ModuleChange, ...] = ()
    if reason is None and one.digest != other.digest:
        opened = [_content.open_adapter(blobs, held, pin.ref) for held, pin in zip(files, pins, strict=True)]
        inputs = dict(zip((one.digest, other.digest), opened, strict=True))
        labels = {one.digest: one.ref, other.digest: other.ref}
        try:
            layouts = {labels[digest]: (each.kind, each.layout) for digest, each in inputs.items()}
            check_compatible(layouts, waived=layouts)
        except Incompatible as error:
            reason = error.message
        else:
            if base_path is None and (parts := needing(inputs)):
                digest, part = next(iter(parts.items()))
                reason = f"{labels[digest]} needs the base model (--base-path DIR): {part}"
            else:
                modules = _modules(ground(inputs, labels, base_path, one.base_model).inputs)
    return Difference(
        before=one.ref,
        after=other.ref,
        fields=(*_fields(one, other), *_changes(*recipes)),
        inputs=tuple(_inputs(one, other)),
        modules=modules,
        not_compared=reason,
    )


def _not_comparable(one: Version, other: Version) -> str | None:
    if one.kind != other.kind:
        return f"{one.ref} is {one.kind}, {other.ref} is {other.kind}"
    if one.base_model.repo != other.base_model.repo:
        return f"{one.ref} is on {one.base_model}, {other.ref} on {other.base_model}"
    blocked = next((version for version in (one, other) if version.not_composable), None)
    return None if blocked is None else f"{blocked.ref}: {blocked.not_composable[0]}"


def _is_here(blobs: BlobStore, files: Mapping[str, File]) -> bool:
    return bool(files) and all(blobs.has(file.digest) for file in files.values())


def _fields(one: Version, other: Version) -> list[FieldChange]:
    pairs = [(name, getattr(one, name), getattr(other, name)) for name in _FIELDS]
    pairs.append(("expression", _expression(one), _expression(other)))
    pairs.append(("resolved", _expression(one, resolved=True), _expression(other, resolved=True)))
    return [FieldChange(field=name, before=_plain(a), after=_plain(b)) for name, a, b in pairs if a != b]


def _recipe(session: Session, pin: Pin) -> dict[str, Any]:
    """What a recipe says beside its inputs and its dtype; an imported version has none."""
    if pin.recipe_digest is None:
        return {"recipe": None}
    made = artifacts.load_recipe(session, pin.recipe_digest)
    calls = dict.fromkeys(f"{call.method} {call.algorithm}" for call in _calls(made.expression))
    return {"recipe": made.digest, "seed": made.seed, "base values": made.base, "methods": list(calls)}


def _calls(expression: Sum) -> Iterator[Call]:
    for term in expression.terms:
        if isinstance(term.operand, Call):
            yield term.operand
            for argument in term.operand.arguments:
                yield from _calls(argument)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[FieldChange]:
    return [
        FieldChange(field=name, before=value, after=after[name])
        for name, value in before.items()
        if name in after and value != after[name]
    ]


def _inputs(one: Version, other: Version) -> list[FieldChange]:
    """Inputs that came, went, or have another coefficient."""
    before = {parent.ref: parent.coefficient or "" for parent in one.parents}
    after = {parent.ref: parent.coefficient or "" for parent in other.parents}
    return [
        FieldChange(field=ref, before=before.get(ref), after=after.get(ref))
        for ref in sorted({*before, *after})
        if before.get(ref) != after.get(ref)
    ]


def _modules(inputs: Mapping[str, StoredAdapter]) -> tuple[ModuleChange, ...]:
    one, other = inputs.values()
    changes = []
    for module, place in space(inputs).items():
        a, b = (delta_of(each, place) for each in (one, other))
        compared = deltas.compare(a, b)
        changes.append(
            ModuleChange(
                module=module,
                before=compared.before,
                after=compared.after,
                cosine=compared.cosine,
                relative=compared.relative,
            )
        )
    return tuple(changes)


def _expression(version: Version, *, resolved: bool = False) -> str | None:
    if version.recipe is None:
        return None
    return version.recipe.resolved if resolved else version.recipe.expression


def _plain(value: Any) -> Any:
    return value.model_dump() if hasattr(value, "model_dump") else value
