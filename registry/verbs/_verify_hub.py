"""Verify a repo on the Hub: against its own provenance, and beside this catalog. No weights are downloaded for that."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.orm import Session

from registry import _partial, digest, hub, kinds, peft_format, signing
from registry import recipe as recipes
from registry._paths import expanded
from registry.blobs import BlobStore
from registry.catalog import artifacts, origins, publications, revocations, views
from registry.catalog.database import Database
from registry.errors import IntegrityFailure, NotFound, RegistryError, UsageError
from registry.hub import RemoteFile
from registry.peft_format import CONFIG, TENSORS, StoredAdapter
from registry.publishers import CARD, PROVENANCE
from registry.publishers._provenance import MAX_SIZE, NotOurs
from registry.publishers._statement import Statement, contradictions, read
from registry.recipe import Recipe
from registry.results import BaseModelIdentity, Verification
from registry.verbs import _content
from registry.verbs._again import computed
from registry.verbs._pinning import DTYPES

_BESIDE = {CARD, PROVENANCE, signing.SIGNATURE, ".gitattributes"}
_LOADED_FIRST = ("adapter_config.json", "model.safetensors")
"""What transformers reads of a merged model before anything else: an adapter's config, and one file instead of many."""
_AT_ONCE = 8
_FEW = 5


@dataclass(frozen=True)
class Ways:
    """What else to do: ``rebuild`` with a base model's folder, and verify a signature with a public ``key``."""

    rebuild: bool
    base_path: str | Path | None
    key: Path | None


@dataclass
class _Findings:
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Repo:
    """A repo at a commit, of a branch or tag if it was asked for by that, its files, and what its provenance says."""

    repo: str
    branch: str | None
    commit: str
    files: Mapping[str, RemoteFile]
    statement: Statement

    @property
    def ref(self) -> str:
        return f"{hub.SCHEME}{self.repo}@{self.commit}"

    def read(self, path: str) -> bytes:
        return hub.read_checked(self.repo, self.commit, path, self.files[path])

    def sha256(self, path: str) -> str:
        """A file's digest: from the listing, or of its content where the Hub has none, which is of small files."""
        return self.files[path].sha256 or digest.of_bytes(self.read(path))


def verify(database: Database, blobs: BlobStore, address: str, ways: Ways) -> Verification:
    """Check a repo; nothing is raised for what is wrong there, it is reported.

    Raises ``NotFound`` for a repo without provenance, and ``IntegrityFailure`` for one whose provenance is unusable.
    """
    there, found = _look(address), _Findings()
    _check_files(there, found)
    found.problems += contradictions(there.statement)
    with database.read() as session:
        known, published = _beside(session, there, found)
    signed = None
    if ways.key is not None:
        signed = _check_signature(there, ways.key, found)
    elif signing.SIGNATURE in there.files:
        found.notes.append("it is signed; give the public key with --key to verify that")
    rebuilt = error = None
    if ways.rebuild:
        rebuilt, error = _rebuilt(database, blobs, there, ways, found)
    return Verification(
        ref=there.ref,
        digest=there.statement.digest,
        ok=not found.problems,
        problems=tuple(found.problems),
        rebuilt=rebuilt,
        error=error,
        known=known,
        published=published,
        signed=signed,
        notes=tuple(found.notes),
    )


def _look(address: str) -> _Repo:
    repo, revision = hub.parse(address)
    commit = hub.resolve(repo, revision)
    files, ref = hub.files(repo, commit), f"{hub.SCHEME}{repo}@{commit}"
    if PROVENANCE not in files:
        raise NotFound(f"{ref} has no {PROVENANCE}", hint="only what a registry published can be verified")
    if files[PROVENANCE].size > MAX_SIZE:
        raise IntegrityFailure(f"{PROVENANCE} of {ref} has {files[PROVENANCE].size} bytes")
    try:
        statement = read(hub.read_checked(repo, commit, PROVENANCE, files[PROVENANCE]))
    except NotOurs as error:
        raise IntegrityFailure(
            f"{PROVENANCE} of {ref} cannot be relied on: {error}", hint="ask who published it"
        ) from None
    return _Repo(repo, hub.branch_or_tag(revision), commit, files, statement)


def _check_files(there: _Repo, found: _Findings) -> None:
    """Every file that the provenance tells of is there and is what it tells."""
    subjects = there.statement.subjects
    missing = sorted(subjects.keys() - there.files.keys())
    found.problems += [f"{path} is missing" for path in missing]
    paths = sorted(subjects.keys() & there.files.keys())

    def differs(path: str) -> str | None:
        try:
            sha256 = there.sha256(path)
        except IntegrityFailure as error:
            return error.message
        return None if sha256 == subjects[path] else f"{path} is {sha256}, not {subjects[path]}"

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found.problems += [each for each in pool.map(differs, paths) if each is not None]
    others = sorted(there.files.keys() - subjects.keys() - _BESIDE)
    if there.statement.target == "model":
        found.problems += [
            f"{path} is read before the model that the provenance tells of"
            for path in _LOADED_FIRST
            if path in others
        ]
    if others:
        more = f" and {len(others) - _FEW} more" if len(others) > _FEW else ""
        found.notes.append(f"the provenance does not tell of {', '.join(others[:_FEW])}{more}")


def _beside(session: Session, there: _Repo, found: _Findings) -> tuple[str | None, bool]:
    """What this catalog knows of it: a version with that content, and whether it published this very commit."""
    statement = there.statement
    digests = {statement.digest, *(each.digest for each in (statement.upstream or {}).values())}
    here = origins.with_content(session, digests)
    for causes in revocations.causes(session, [each.id for some in here.values() for each in some]).values():
        found.problems += [
            f"{each.ref}, which it is or derives from, was revoked here: {each.reason}"
            for each in causes
            if each.ref == each.revoked
        ]
    published = origins.published_at(session, there.repo, there.commit)
    for ref, row_id in published:
        version = views.version(session, row_id)
        if version.digest != statement.digest:
            found.problems.append(f"this catalog published {ref} there, which is {version.digest}")
        elif (version.recipe and version.recipe.digest) != (statement.recipe and statement.recipe.digest):
            found.problems.append(f"this catalog published {ref} there, which has another recipe")
        elif {(p.digest, p.relation) for p in version.parents} != _parents(statement):
            found.problems.append(f"this catalog published {ref} there, which has other parents")
    found.problems += _out_of_place(session, there)
    same = here.get(statement.digest, [])
    if same and not published:
        recipes_here = {views.version(session, each.id).recipe for each in same}
        told = statement.recipe and statement.recipe.digest
        if told is not None and told not in {each and each.digest for each in recipes_here}:
            found.notes.append(f"{same[0].ref} has the same content here, and another recipe or none")
    return (same[0].ref if same else None), bool(published)


def _out_of_place(session: Session, there: _Repo) -> Iterator[str]:
    """Where the branch holds what this catalog took off it, or anything but the last that it brought there.

    What it pushed since without knowing yet what became of it may be there as well.
    """
    at = [each for each in publications.within(session, [there.repo]) if each.shown.revision == there.branch]
    arrived = [place for place, each in enumerate(at) if each.shown.state == "done" and each.on_branch]
    since = at[arrived[-1] :] if arrived else at
    same = [each.shown for each in since if there.statement.subjects.items() <= each.shown.files.items()]
    if same and all(each.state == "withdrawn" for each in same):
        yield f"{same[-1].ref} was withdrawn from there"
    elif arrived and not same:
        yield f"it is not what this catalog published last to {there.branch}"


def _parents(statement: Statement) -> set[tuple[str | None, str]]:
    roles = ("input", "declared")
    return {(each.sha256, each.role) for each in statement.dependencies if each.role in roles}


def _check_signature(there: _Repo, key: Path, found: _Findings) -> bool:
    listed = there.files.get(signing.SIGNATURE)
    if listed is None:
        found.problems.append("it is not signed")
        return False
    if listed.size > signing.MAX_SIZE:
        found.problems.append(f"{signing.SIGNATURE} has {listed.size} bytes, more than any signature")
        return False
    try:
        covered = signing.signed(there.read(signing.SIGNATURE), key)
    except IntegrityFailure as error:
        found.problems.append(error.message)
        return False
    wrong = [
        f"{path} is not what was signed"
        for path, sha256 in sorted(covered.items())
        if path not in there.files or there.sha256(path) != sha256
    ]
    needed = {PROVENANCE, *there.statement.subjects}
    wrong += [f"{path} is not signed" for path in sorted(needed - covered.keys())]
    found.problems += wrong
    return not wrong


def _rebuilt(
    database: Database, blobs: BlobStore, there: _Repo, ways: Ways, found: _Findings
) -> tuple[str | None, float | None]:
    """Compute it again; what it gave, and how far that is from what is published where it is not the same."""
    try:
        recipe = _recipe(there.statement)
        if recipe is None:
            found.notes.append("it was not composed, so there is nothing to rebuild")
            return None, None
        with ExitStack() as stack:
            inputs = {each: _input(database, blobs, there, each, stack) for each in recipe.inputs}
            if there.statement.target == "model":
                return _model(there, recipe, inputs, ways=ways, found=found, stack=stack), None
            return _adapter(blobs, there, recipe, inputs, ways=ways, found=found)
    except RegistryError as error:
        advice = f" ({error.hint})" if error.hint else ""
        found.problems.append(f"it could not be rebuilt: {error.message}{advice}")
        return None, None


def _recipe(statement: Statement) -> Recipe | None:
    """What gives the published files: of an adapter that was merged as it is, that adapter."""
    if statement.recipe is not None:
        return statement.recipe.parsed
    itself = statement.itself
    if statement.target == "adapter" or itself is None:
        return None
    dtype = itself.dtype if itself.dtype in DTYPES else "float32"
    algorithm = kinds.load(itself.kind).algorithm
    return recipes.identity(statement.digest, kind=itself.kind, algorithm=algorithm, dtype=dtype)


def _input(
    database: Database, blobs: BlobStore, there: _Repo, content: str, stack: ExitStack
) -> StoredAdapter:
    """An input of the recipe: from this catalog, or else from where the provenance says that it is."""
    with database.read() as session:
        files = artifacts.files(session, content)
    label = _label(there.statement, content)
    if files:
        return _content.open_adapter(blobs, files, label)
    for place in _places(there.statement, content):
        fetched = hub.fetch_adapter(*hub.parse(place))
        stack.callback(lambda _: None, fetched)  # its folder stays as long as it does
        stored = peft_format.open_files(fetched.folder / CONFIG, fetched.folder / TENSORS)
        digest.check(
            f"{label} at {place}",
            expected=content,
            found=stored.digest,
            hint="ask who published it there for what it was",
        )
        return stored
    raise NotFound(
        f"its input {label}, {content}, is neither here nor published",
        hint="ask who published it for that adapter",
    )


def _label(statement: Statement, content: str) -> str:
    known = (statement.upstream or {}).values()
    return next((each.ref for each in known if each.digest == content), content)


def _places(statement: Statement, content: str) -> Iterator[str]:
    for each in (statement.upstream or {}).values():
        if each.digest == content and each.place is not None:
            yield f"{hub.SCHEME}{each.place[0]}@{each.place[1]}"


def _adapter(
    blobs: BlobStore,
    there: _Repo,
    recipe: Recipe,
    inputs: Mapping[str, StoredAdapter],
    *,
    ways: Ways,
    found: _Findings,
) -> tuple[str, float | None]:
    from registry.verbs.verify import TOLERANCE, distance

    statement = there.statement
    labels = {each: _label(statement, each) for each in inputs}
    again = computed(blobs, recipe, inputs, labels, base_model=statement.base, base_path=ways.base_path)
    with again as made:
        if made.stored.digest == statement.digest:
            return made.stored.digest, None
        fetched = hub.fetch_adapter(there.repo, there.commit)
        published = peft_format.open_files(fetched.folder / CONFIG, fetched.folder / TENSORS)
        error = distance(published, made)
        far = f"a relative change of {error:.1e} where {TOLERANCE:.0e} is allowed"
        if error > TOLERANCE:
            found.problems.append(
                f"its recipe gives {made.stored.digest} here, not {statement.digest}, {far}"
            )
        elif published.digest != statement.digest:
            found.problems.append(f"its content is {published.digest}, not {statement.digest}")
        else:
            found.notes.append(f"its recipe gives {made.stored.digest} here, {far}")
        return made.stored.digest, error


def _model(
    there: _Repo,
    recipe: Recipe,
    inputs: Mapping[str, StoredAdapter],
    *,
    ways: Ways,
    found: _Findings,
    stack: ExitStack,
) -> str:
    """The digest over the files of the merged model, made again; the files that differ are problems."""
    from registry.verbs import _model as models

    folder = stack.enter_context(_partial.new(Path(tempfile.gettempdir()), "registry", folder=True))
    labels = {each: _label(there.statement, each) for each in inputs}
    base = _base_folder(there.statement.base, ways)
    made = models.merged_again(
        recipe, inputs, labels, identity=there.statement.base, base_folder=base, out=folder
    )
    for path, sha256 in sorted(there.statement.subjects.items()):
        if made.get(path) != sha256:
            found.problems.append(
                f"merging it again gives {made.get(path, 'no such file')} as {path}, not {sha256}"
            )
    return digest.of_json(made)


def _base_folder(base: BaseModelIdentity, ways: Ways) -> Path:
    if ways.base_path is not None:
        return expanded(ways.base_path)
    if base.repo is None or not hub.is_repo_id(base.repo):
        raise UsageError("its base model is no repo on the Hub", hint="say where it is with --base-path DIR")
    return hub.fetch_model(base.repo, base.revision)[0]
