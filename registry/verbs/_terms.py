"""What a version may be published under, by the licenses of all that it was made of."""

from __future__ import annotations

from sqlalchemy.orm import Session

from registry import hub, licenses
from registry.catalog import licenses as stated
from registry.catalog.database import Database
from registry.catalog.references import Pin
from registry.errors import Refused
from registry.licenses import Source
from registry.publishers import Terms
from registry.results import Target
from registry.verbs import bases
from registry.verbs._release import Presentation
from registry.verbs._text import check_text

_HINT = (
    "choose another license with --license, leave that input out, "
    "or say why it is allowed with --despite-license REASON"
)


def terms(database: Database, pin: Pin, target: Target, presentation: Presentation, *, public: bool) -> Terms:
    """The license that a release gets, and why; reads the catalog only.

    An imported adapter that is passed on as it is keeps its license. Anything else is judged as something new: by
    what was asked for now, or else when it was composed.
    """
    for what, text in (("license", presentation.license), ("reason", presentation.despite_license)):
        if text is not None:
            check_text(what, text)
    with database.read() as session:
        found = list(stated.sources(session, pin))
        base = stated.of_base(session, pin.base_model_id)
    composed = pin.recipe_digest is not None
    named = pin.base_model.repo if pin.base_model.repo and hub.is_repo_id(pin.base_model.repo) else None
    found.append(Source(f"the base model {named}" if named else "the base model", base))
    asked = presentation.license or (pin.license if composed else None)
    derived = licenses.derive(asked, found, changed=composed or target == "model", public=public)
    return Terms(
        license=derived.license,
        inputs=tuple(found),
        notes=derived.notes,
        conflicts=derived.conflicts,
        despite=presentation.despite_license if derived.conflicts else None,
    )


def check(ref: str, found: Terms) -> None:
    """Raise ``Refused`` for a conflict that nobody gave a reason to go against."""
    if found.conflicts and found.despite is None:
        more = f" (and {len(found.conflicts) - 1} more)" if len(found.conflicts) > 1 else ""
        raise Refused(f"{ref} cannot be published so: {found.conflicts[0]}{more}", hint=_HINT)


def ask_base(database: Database, pin: Pin, actor: str) -> None:
    """Learn the base model's license from its card where it is not known, and remember it.

    One request at most; a Hub that does not tell is no hindrance.
    """
    repo = pin.base_model.repo
    if not repo or not hub.is_repo_id(repo):
        return
    with database.read() as session:
        if stated.of_base(session, pin.base_model_id) is not None:
            return
    found = bases.license_there(pin.base_model)
    if found is not None:
        database.transact(lambda session: _learn(session, pin.base_model_id, found, actor))


def _learn(session: Session, base_model_id: int, found: str, actor: str) -> None:
    if stated.of_base(session, base_model_id) is None:  # somebody may have said meanwhile
        stated.set_base(session, base_model_id, found, actor)
