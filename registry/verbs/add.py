"""Add an adapter: read it warily, keep its bytes, record it as the next version of its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from registry import checkpoint, digest, peft_format, reference
from registry._paths import expanded
from registry._remembered import Remembered
from registry.base_layout import BaseLayout
from registry.blobs import BlobStore
from registry.catalog import bases, references, revocations, versions, views
from registry.catalog.database import Database
from registry.catalog.versions import Draft, Edge
from registry.errors import Refused, UsageError
from registry.peft_format import CONFIG, TENSORS, StoredAdapter
from registry.results import Added, BaseModelIdentity, Version
from registry.verbs import _content
from registry.verbs._text import check_tags, check_text

if TYPE_CHECKING:
    from registry.hub import FetchedRepo
    from registry.verbs._claims import Claim

HUB = "hf://"
MAX_BASE = 300  # what fits an index on every database


@dataclass(frozen=True)
class _Source:
    """A PEFT folder, where it came from for the record, and the folder's name for messages."""

    folder: Path
    recorded: str
    fetched: FetchedRepo | None = None
    repo: str | None = None
    revision: str | None = None


def add(
    database: Database,
    blobs: BlobStore,
    *,
    source: str | Path,
    name: str,
    base: str | None,
    base_path: str | Path | None,
    task: str | None,
    tags: Mapping[str, str],
    license: str | None,  # noqa: A002  (the field's own word)
    parents: Sequence[str],
    note: str | None,
    new: bool,
    provenance: bool = True,
    remembered: Path | None = None,
    actor: str,
) -> Added:
    reference.check_name(name)
    check_tags(tags)
    for what, text in (("task", task), ("license", license), ("note", note)):
        if text is not None:
            check_text(what, text)

    if base is not None:
        check_text("base", base, limit=MAX_BASE)
    database.require("versions")

    def once() -> Added:
        with _fetched(source) as found, blobs.stage() as stage:
            stored = _copied(found.folder, stage)
            with database.read() as session:
                known = None if base is None else bases.named(session, base)
            identity, layout = _identity(stored, base, known, base_path, remembered)
            with database.read() as session:
                _check_fits(session, stored, identity, layout)
                for parent in parents:
                    references.resolve(session, reference.parse(parent))
                versions.refuse_early(session, name, kind=stored.kind, base=identity, new=new)
            claim, warnings = _told(found, stored, identity) if provenance else (None, ())
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
                source=found.recorded.encode("utf-8", "backslashreplace").decode(),
                source_revision=found.revision,
                base_layout=layout,
                new=new,
            )
            return record(database, blobs, draft, parents, claim=claim, warnings=warnings)

    return _content.again_if_swept(once)


def record(
    database: Database,
    blobs: BlobStore,
    draft: Draft,
    parents: Sequence[str],
    *,
    claim: Claim | None = None,
    warnings: Sequence[str] = (),
) -> Added:
    """Record stored content as the next version of its name, with the parents that were declared.

    With a ``claim`` it is what that tells, and its ancestors are recorded with it.
    """

    def write(session: Session) -> tuple[Version, bool, tuple[str, ...]]:
        pins = [references.resolve(session, reference.parse(parent)) for parent in parents]
        edges = [Edge(pin.id, "declared") for pin in {pin.id: pin for pin in pins}.values()]
        made = _with_parents(draft, edges)
        told: tuple[str, ...] = ()
        if claim is not None:
            made, told = claim.write(session, made)
        row_id, created = versions.write(session, made)
        _content.check_present(blobs, draft.content.files)
        session.flush()
        twins = revocations.twins(session, row_id, draft.content.digest)
        return (
            views.version(session, row_id),
            created,
            (*told, *revocations.warnings(session, row_id), *twins),
        )

    version, created, said = database.transact(write)
    warnings = [
        *warnings,
        *said,
        *draft.content.not_composable,
        *([] if created else _ignored(draft, parents, version)),
    ]
    return Added(**dict(version), created=created, warnings=tuple(warnings))


def _ignored(draft: Draft, parents: Sequence[str], version: Version) -> list[str]:
    """What was said about content that is there already, and is said otherwise there."""
    said = {
        "--task": draft.task not in {None, version.task},
        "--license": draft.license not in {None, version.license},
        "--note": draft.note not in {None, version.note},
        "--tag": any(version.tags.get(key) != value for key, value in draft.tags.items()),
        "--parent": bool(set(parents) - {parent.ref for parent in version.parents}),
        "--base": draft.base_model.revision not in {None, version.base_model.revision},
    }
    ignored = ", ".join(option for option, differs in said.items() if differs)
    return [f"{version.ref} stays as it is: {ignored} not applied"] if ignored else []


def _with_parents(draft: Draft, edges: list[Edge]) -> Draft:
    return Draft(**{**vars(draft), "parents": edges})


def _copied(folder: Path, stage: Path) -> StoredAdapter:
    """The adapter, read, copied into the stage, and read again there: nobody can change it in between."""
    try:
        found = peft_format.read(folder)
    except Refused as error:
        if str(folder) in error.message:
            raise
        # The file's own words do not say which of many adapters it is.
        raise type(error)(f"{folder}: {error.message}", hint=error.hint) from error
    _content.copy_files({name: folder / name for name in (CONFIG, TENSORS)}, stage)
    copy = peft_format.open_files(stage / CONFIG, stage / TENSORS)
    digest.check(
        f"the copy of {folder}",
        expected=found.digest,
        found=copy.digest,
        hint="add it again while nobody writes to it",
    )
    return copy


def identity_of(
    stored: StoredAdapter, base: str | None, known: BaseModelIdentity | None = None
) -> BaseModelIdentity:
    """The base model, as said by the caller or else by the adapter; ``known`` is what an alias stands for."""
    identity = stored.base_model
    if known is not None:
        identity = known
    elif base is not None:
        repo, _, revision = base.partition("@")
        if not repo:
            raise UsageError(f"{base!r} names no base model", hint="--base REPO[@REVISION]")
        identity = BaseModelIdentity(repo=repo, revision=revision or None)
    if len(identity.repo or "") > MAX_BASE or len(identity.revision or "") > MAX_BASE:
        raise Refused(f"the base model's name has more than {MAX_BASE} characters", hint="say it with --base")
    if not identity.repo:
        raise Refused(
            "the adapter's config names no base model", hint="say which with --base REPO[@REVISION]"
        )
    return identity


def _identity(
    stored: StoredAdapter,
    base: str | None,
    known: BaseModelIdentity | None,
    base_path: str | Path | None,
    remembered: Path | None,
) -> tuple[BaseModelIdentity, BaseLayout | None]:
    """The base model, with its weights' fingerprint and layout, and checked against them, if they are at hand."""
    identity = identity_of(stored, base, known)
    if base_path is None:
        return identity, None
    checked = checkpoint.open_base(Path(base_path))
    check_targets(stored, checked.layout)
    found = checked.fingerprint(remembered=Remembered(remembered))
    return identity.model_copy(update={"fingerprint": found}), checked.layout


def _check_fits(
    session: Session, stored: StoredAdapter, identity: BaseModelIdentity, layout: BaseLayout | None
) -> None:
    """Hold the adapter's targets against what is known of its base model, where it was not at hand."""
    if layout is None and (seen := bases.layout_of(session, identity)) is not None:
        check_targets(stored, seen)


def check_targets(stored: StoredAdapter, layout: BaseLayout) -> None:
    """Raise unless the base model has every tensor that the adapter changes, in its shape."""
    flag = stored.config.get("fan_in_fan_out")
    layout.resolve(stored.layout.modules, fan_in_fan_out=flag, new_heads=True)


@contextmanager
def _fetched(source: str | Path) -> Iterator[_Source]:
    text = str(source)
    if not text.startswith(HUB):
        yield _Source(expanded(source), text)
        return
    from registry import hub

    repo, revision = hub.parse(text)
    fetched = hub.fetch_adapter(repo, revision)
    place = f"{HUB}{repo}@{fetched.commit}"
    yield _Source(fetched.folder, place, fetched, repo, hub.branch_or_tag(revision))


def _told(
    found: _Source, stored: StoredAdapter, identity: BaseModelIdentity
) -> tuple[Claim | None, tuple[str, ...]]:
    """What a published provenance tells of what was fetched, or why it is left aside."""
    if found.fetched is None or found.repo is None:
        return None, ()
    from registry.verbs import _claims

    return _claims.claim(found.repo, found.fetched, stored, identity)
