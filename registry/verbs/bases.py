"""Base models: list them, look at one, name one, and record what one is."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session

from registry import checkpoint, reference
from registry._paths import expanded
from registry._remembered import Remembered
from registry.base_layout import BaseLayout
from registry.catalog import bases, licenses, references, versions
from registry.catalog.database import Database
from registry.catalog.events import record
from registry.errors import Incompatible, RegistryError, UsageError
from registry.results import BaseAlias, BaseModelIdentity, BaseModelInfo
from registry.verbs._text import check_text

HUB = "hf://"
MAX_BASE = 300  # what fits an index on every database


def listing(database: Database) -> tuple[BaseModelInfo, ...]:
    with database.read() as session:
        return bases.listing(session)


def show(database: Database, name: str) -> BaseModelInfo:
    check_text("base", name, limit=MAX_BASE)
    with database.read() as session:
        return bases.info(session, [bases.find(session, name)])[0]


def tensors(database: Database, name: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    check_text("base", name, limit=MAX_BASE)
    with database.read() as session:
        found = bases.layout(session, bases.find(session, name).fingerprint)
    return {} if found is None else dict(found.shapes)


def add(
    database: Database,
    name: str,
    *,
    base_path: str | Path | None,
    replace: bool,
    remembered: Path | None,
    actor: str,
) -> BaseModelInfo:
    check_text("base", name, limit=MAX_BASE)
    with database.read() as session:
        known = bases.named(session, name)
    identity = known or _identity(name.removeprefix(HUB))
    fingerprint, layout = _seen(identity, base_path, remembered)
    said = None if base_path is not None else license_there(identity)
    wanted = identity.model_copy(update={"fingerprint": fingerprint})

    def work(session: Session) -> BaseModelInfo:
        row = versions.base_model(session, identity.model_copy(update={"fingerprint": None}))
        previous = row.fingerprint
        if previous is None:
            versions.set_fingerprint(session, row.id, wanted)
        elif previous != fingerprint and not replace:
            raise Incompatible(
                f"these are other weights than those recorded for {references.base_identity(row)}: "
                f"{fingerprint}, not {row.fingerprint}",
                hint="name this model REPO@REVISION, or use --replace if what is recorded is wrong",
            )
        row.fingerprint = fingerprint
        session.flush()
        bases.save_layout(session, fingerprint, layout)
        if said is not None and row.license is None:
            row = licenses.set_base(session, row.id, said, actor)
        if previous != fingerprint:
            before = {} if previous is None else {"previous": previous}
            record(session, actor, "fingerprint", str(identity), fingerprint=fingerprint, **before)
        return bases.info(session, [row])[0]

    return database.transact(work)


def set_license(database: Database, name: str, license_: str | None, *, actor: str) -> BaseModelInfo:
    check_text("base", name, limit=MAX_BASE)
    if license_ is not None:
        check_text("license", license_)

    def work(session: Session) -> BaseModelInfo:
        row = licenses.set_base(session, bases.find(session, name).id, license_, actor)
        session.flush()
        return bases.info(session, [row])[0]

    return database.transact(work)


def set_alias(database: Database, alias: str, name: str, *, actor: str) -> BaseAlias:
    reference.check_alias(alias)
    check_text("base", name, limit=MAX_BASE)
    return database.transact(
        lambda session: bases.set_alias(session, alias, bases.find(session, name), actor)
    )


def delete_alias(database: Database, alias: str, *, actor: str) -> BaseAlias:
    reference.check_alias(alias)
    return database.transact(lambda session: bases.delete_alias(session, alias, actor))


def aliases(database: Database) -> tuple[BaseAlias, ...]:
    with database.read() as session:
        return bases.aliases(session)


def _identity(name: str) -> BaseModelIdentity:
    repo, _, revision = name.partition("@")
    if not repo:
        raise UsageError(f"{name!r} names no base model", hint="REPO[@REVISION]")
    return BaseModelIdentity(repo=repo, revision=revision or None)


def _seen(
    identity: BaseModelIdentity, base_path: str | Path | None, remembered: Path | None
) -> tuple[str, BaseLayout]:
    """What the weights are: read from a folder, or from the Hub without downloading them."""
    if base_path is not None:
        found = checkpoint.open_base(expanded(base_path))
        return found.fingerprint(remembered=Remembered(remembered)), found.layout
    from registry import hub

    if not hub.is_repo_id(str(identity.repo)):
        raise UsageError(
            f"{identity} is no repo on the Hub",
            hint="call it as adapters do, and say where it is: registry base add REPO --base-path DIR",
        )
    described = hub.describe_model(str(identity.repo), identity.revision)
    return described.fingerprint, described.layout


def license_there(identity: BaseModelIdentity) -> str | None:
    """What its card on the Hub says; one that does not tell is no hindrance."""
    from registry import hub

    try:
        found = hub.license_of(str(identity.repo), identity.revision)
        if found is not None:
            check_text("license", found)
    except RegistryError:
        return None
    return found
