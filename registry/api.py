"""The registry from Python: one short method per verb, no logic.

Verbs are imported when called, so that looking something up never pays for torch or the Hub client.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from registry import settings
from registry.results import (
    Added,
    AddedAll,
    Alias,
    Backup,
    BaseAlias,
    BaseModelInfo,
    Card,
    Check,
    Checkout,
    Comparison,
    Composed,
    Conflicts,
    DatabaseCheck,
    Deleted,
    Difference,
    Duplicates,
    Evaluation,
    Event,
    Exported,
    Extracted,
    Fetched,
    Garbage,
    Impact,
    Imported,
    Lineage,
    Materialized,
    MaterializePlan,
    MethodInfo,
    Page,
    Pinned,
    Plotted,
    Publication,
    Rebuilt,
    Restored,
    Revocation,
    Roles,
    Rule,
    Schema,
    Similar,
    Sketched,
    Staleness,
    Sweep,
    Synced,
    SyncedFolder,
    SyncReport,
    Tagged,
    Target,
    Unpublished,
    Verification,
    Version,
    Watched,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from decimal import Decimal
    from typing import Literal

    from registry.blobs import BlobStore
    from registry.catalog.database import Database

Progress = Callable[[str, int, int], None]
"""Called with what is being done, the bytes or items done so far, and their total."""

Reference = str | Version
"""``"toxic@3"``, ``"toxic@prod"``, ``"toxic"`` (its latest version), ``"sha256:…"``, or a version itself."""


class Registry:
    """A catalog, its blob store, and who is using them. Open it with :meth:`open`, in a ``with`` block."""

    def __init__(self, config: settings.Settings, database: Database) -> None:
        self._config = config
        self._database = database

    @cached_property
    def _blobs(self) -> BlobStore:
        """The blob store, opened when bytes are first asked for: looking things up needs none."""
        from registry.blobs import open_store

        return open_store(self._config.blobs, self._config.room)

    @property
    def _remembered(self) -> Path:
        """Where it is kept what weight files were seen to hold."""
        return self._config.home / "fingerprints.json"

    @classmethod
    def open(
        cls,
        home: str | Path | None = None,
        *,
        database_url: str | None = None,
        blobs: str | None = None,
        actor: str | None = None,
    ) -> Self:
        """Open the catalog, creating an empty one where there is none.

        Arguments default to ``REGISTRY_HOME``, ``REGISTRY_DATABASE_URL``, ``REGISTRY_BLOBS`` and
        ``REGISTRY_ACTOR``. Raises ``SchemaOutdated`` for a catalog of another release (it is never migrated
        on open) and ``StorageFailure`` where the database cannot be reached.
        """
        from registry.verbs import opening

        return cls(
            *opening.open_registry(settings.load(home, database_url=database_url, blobs=blobs, actor=actor))
        )

    def close(self) -> None:
        self.__dict__.pop("_blobs", None)  # copies of blobs that it was given need not stay
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- looking things up

    def show(self, ref: Reference) -> Version:
        """One version with everything known of it. Raises ``NotFound``."""
        from registry.verbs import lookup

        return lookup.show(self._database, _text(ref))

    def resolve(self, ref: Reference) -> Pinned:
        """What a reference means now, in one statement. Raises ``NotFound``."""
        from registry.verbs import lookup

        return lookup.resolve(self._database, _text(ref))

    def list(
        self,
        filter: str | None = None,  # noqa: A002  (its name on the command line)
        *,
        base: str | None = None,
        task: str | None = None,
        kind: str | None = None,
        tags: Mapping[str, str] | None = None,
        latest: bool | None = None,
        sort: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page:
        """Versions that fit ``filter`` (see ``docs/filters.md``) and every other argument, a page at a time.

        Without a filter each adapter is shown by its latest live version, with one every live version is searched;
        ``latest`` decides it either way. ``base`` is ``repo``, ``repo@revision`` or an alias. ``sort`` is ``name``,
        ``created`` (newest first), ``size`` or ``parameters`` (largest first); by default ``created``, and ``name``
        for the latest of each without a filter. ``after`` is the ``next`` of the page before, for the same arguments.
        Raises ``ExpressionError`` for a filter that does not parse, ``NotFound`` for a version it names.
        """
        from registry.verbs import lookup

        return lookup.listing(
            self._database,
            filter=filter,
            base=base,
            task=task,
            kind=kind,
            tags=dict(tags or {}),
            latest=latest,
            sort=sort,
            limit=limit,
            after=after,
        )

    def log(self, name: str) -> tuple[Version, ...]:
        """All versions of an adapter, newest first, tombstones included. Raises ``NotFound``."""
        from registry.verbs import lookup

        return lookup.log(self._database, name)

    def lineage(
        self, ref: Reference, *, direction: Literal["up", "down"] = "up", depth: int | None = None
    ) -> Lineage:
        """The graph of versions it was derived from (``up``) or that were derived from it (``down``)."""
        from registry.verbs import lookup

        return lookup.lineage(self._database, _text(ref), direction=direction, depth=depth)

    def impact(self, ref: Reference) -> Impact:
        """Everything derived from a version at any depth, the aliases there, and every Hub repo that it reached."""
        from registry.verbs import impact

        return impact.impact(self._database, _text(ref))

    def stale(self, refs: Iterable[Reference] = (), *, every: bool = False) -> tuple[Staleness, ...]:
        """Compositions that would pin differently now, and why: of the given versions, or the latest of each line.

        ``every`` looks at all that are not deleted.
        """
        from registry.verbs import stale

        return stale.stale(self._database, _texts(refs), every=every)

    def diff(self, before: Reference, after: Reference, *, base_path: str | Path | None = None) -> Difference:
        """How two versions differ: metadata, inputs and coefficients, and the change of ΔW per module.

        Deleted versions are compared, too; ΔW only as long as their bytes are here. ``base_path`` is the base model's
        folder, for adapters that hold parameters whole or use DoRA.
        """
        from registry.verbs import diff

        return diff.diff(self._database, self._blobs, _text(before), _text(after), base_path=base_path)

    def similar(
        self,
        ref: Reference,
        *,
        limit: int = 10,
        minimum: float | None = None,
        exact: bool | None = None,
        opposite: bool = False,
        versions: bool = False,
        filter: str | None = None,  # noqa: A002  (as in :meth:`list`)
        progress: Progress | None = None,
    ) -> Similar:
        """The versions on the same base model that are most like one, by the cosine of their ΔW over all modules.

        Of the latest of each adapter, or with ``versions`` of all, that fit ``filter``. All are ranked by stored sketches,
        which are made where there are none; the best are then computed from their factors: with ``exact`` True as many
        as it takes, with False none. ``minimum`` is the least cosine that is shown, ``opposite`` ranks from −1 on.
        Raises ``Refused`` for a version that has nothing to be compared.
        """
        from registry.verbs import similar

        return similar.similar(
            self._database,
            self._blobs,
            _text(ref),
            limit=limit,
            minimum=minimum,
            exact=exact,
            opposite=opposite,
            versions=versions,
            where=filter,
            progress=progress,
        )

    def duplicates(
        self,
        *,
        base: str | None = None,
        minimum: float = 0.9999,
        versions: bool = False,
        filter: str | None = None,  # noqa: A002  (as in :meth:`list`)
        progress: Progress | None = None,
    ) -> Duplicates:
        """Groups of versions whose cosine with the oldest of them is at least ``minimum``, on ``base`` or on all.

        Sketches pick the pairs, in time that grows with the square of the number of contents on one base model; what is
        told is computed exactly.
        """
        from registry.verbs import similar

        return similar.duplicates(
            self._database,
            self._blobs,
            base=base,
            minimum=minimum,
            versions=versions,
            where=filter,
            progress=progress,
        )

    def sketch(self, *, progress: Progress | None = None) -> Sketched:
        """Make the sketches that :meth:`similar` would make, of all live versions; some at a time are kept."""
        from registry.verbs import similar

        return similar.prepare(self._database, self._blobs, progress=progress)

    def check(
        self,
        expression: str,
        *,
        rank: int | None = None,
        energy: str | float | None = None,
        dtype: str | None = None,
        base_path: str | Path | None = None,
        conflicts: bool | None = None,
    ) -> Check:
        """Type-check an expression and explain what composing it would do. Writes nothing.

        ``conflicts`` compares the inputs with each other, which reads their tensors: True in all modules, False not
        at all, and by default in as many as take about two seconds, which is usually all of them. ``base_path`` is
        the base model's folder, for inputs that hold parameters whole or use DoRA. Raises
        ``ExpressionError`` (with the column), ``NotFound``, ``Incompatible`` or ``Refused``.
        """
        from registry.verbs import check

        return check.check(
            self._database,
            self._blobs,
            expression,
            rank=rank,
            energy=energy,
            dtype=dtype,
            base_path=base_path,
            conflicts=conflicts,
        )

    def conflicts(self, expression: str, *, base_path: str | Path | None = None) -> Conflicts:
        """How the inputs of an expression get in each other's way, as :meth:`check` measures it in all modules.

        It only explains: inputs that were revoked or deleted are compared, and named in the warnings. Raises what
        :meth:`check` does otherwise, and ``NotHeld`` for a deleted input whose bytes were collected.
        """
        from registry.verbs import check

        return check.conflicts(self._database, self._blobs, expression, base_path=base_path)

    def plot(
        self,
        what: str,
        subject: Reference,
        out: str | Path,
        *,
        replace: bool = False,
        direction: Literal["up", "down"] | None = None,
        depth: int | None = None,
        base_path: str | Path | None = None,
    ) -> Plotted:
        """Draw a ``lineage``, the ``conflict`` of inputs, or a ``sweep`` into ``out``: ``.svg``, ``.png`` or ``.html``.

        ``subject`` is a version, for a conflict also an expression. ``direction`` and ``depth`` are as in
        :meth:`lineage`, ``base_path`` as in :meth:`check`. The same catalog gives the same bytes. Needs the extra
        ``plot``. Raises ``Conflict`` where ``out`` exists, unless it is a file to ``replace``, and ``Refused`` for
        what cannot be drawn so that it can be read. While it draws, matplotlib's settings are its own.
        """
        from registry.plots import Options
        from registry.verbs import plot

        options = Options(direction=direction, depth=depth, base_path=base_path)
        return plot.plot(self, what, _text(subject), out, options, replace=replace)

    # -- adding and composing

    def add(
        self,
        source: str | Path,
        name: str,
        *,
        base: str | None = None,
        base_path: str | Path | None = None,
        task: str | None = None,
        tags: Mapping[str, str] | None = None,
        license: str | None = None,  # noqa: A002  (the field's own word)
        parents: Iterable[Reference] = (),
        note: str | None = None,
        new: bool = False,
        provenance: bool = True,
    ) -> Added:
        """Catalog a PEFT folder, or ``hf://owner/repo[@revision]``, as the next version of ``name``.

        Content that the adapter already has is not added again (``created`` is False). ``base`` is
        ``repo[@revision]``, by default what the adapter's config says; with ``base_path`` its targets are
        checked against the base model's tensors and the base's fingerprint is recorded. ``new`` refuses a
        name that exists. What a registry published comes with its recipe and its lineage, unless ``provenance`` is
        False: what it was derived from is recorded as known, not ``held``, where it is not here. Raises ``Refused``
        for an adapter that is malformed, ``Conflict`` for a name that is
        taken by an adapter of another kind or base, or that differs only by case.
        """
        from registry.verbs import add

        return add.add(
            self._database,
            self._blobs,
            source=source,
            name=name,
            base=base,
            base_path=base_path,
            task=task,
            tags=tags or {},
            license=license,
            parents=[_text(parent) for parent in parents],
            note=note,
            new=new,
            provenance=provenance,
            remembered=self._remembered,
            actor=self._config.actor,
        )

    def compose(
        self,
        name: str,
        expression: str,
        *,
        rank: int | None = None,
        energy: str | float | None = None,
        dtype: str | None = None,
        seed: int = 0,
        device: str = "auto",
        base_path: str | Path | None = None,
        task: str | None = None,
        tags: Mapping[str, str] | None = None,
        note: str | None = None,
        progress: Progress | None = None,
    ) -> Composed:
        """Pin an expression as a recipe, compute its adapter, and catalog it as the next version of ``name``.

        ``rank`` or ``energy`` truncate the result optimally. A recipe whose output is known is not computed
        again (``cached``); a version of ``name`` that has this very recipe is returned as it is (``created``
        False). ``task`` is by default the one that all inputs share. ``base_path`` is the base model's folder, for
        inputs that hold parameters whole or use DoRA. Raises what :meth:`check` raises, and ``Conflict`` for a
        name taken by something else.
        """
        from registry.verbs import compose

        return compose.compose(
            self._database,
            self._blobs,
            name,
            expression,
            rank=rank,
            energy=energy,
            dtype=dtype,
            seed=seed,
            device=device,
            base_path=base_path,
            task=task,
            tags=tags or {},
            note=note,
            actor=self._config.actor,
            progress=progress,
        )

    def rebuild(
        self,
        refs: Iterable[Reference] = (),
        *,
        dry_run: bool = False,
        device: str = "auto",
        base_path: str | Path | None = None,
        progress: Progress | None = None,
    ) -> tuple[Rebuilt, ...]:
        """Make new versions of everything stale and of what follows it, or of ``refs`` and what they follow.

        Each is the stored expression composed again under its name with the parameters, tags, task, license and note
        that it had, after those that it follows. What cannot be is reported, and what follows it left alone. Running
        it again continues what was interrupted. ``base_path`` is the base model's folder, for inputs that hold
        parameters whole or use DoRA.
        """
        from registry.verbs import rebuild

        return rebuild.rebuild(
            self._database,
            self._blobs,
            _texts(refs),
            dry_run=dry_run,
            device=device,
            base_path=base_path,
            actor=self._config.actor,
            progress=progress,
        )

    def convert(
        self,
        ref: Reference,
        *,
        to: str = "lora",
        name: str | None = None,
        rank: int | None = None,
        energy: str | float | None = None,
        dtype: str | None = None,
        initial: Reference | None = None,
        device: str = "auto",
        base_path: str | Path | None = None,
        tags: Mapping[str, str] | None = None,
        note: str | None = None,
        progress: Progress | None = None,
    ) -> Composed:
        """Write an adapter of another type as LoRA, as the next version of ``name`` (by default ``NAME-lora``).

        LoHa, LoKr and VeRA are exact without ``rank``; DoRA needs ``base_path`` and ``rank`` or ``energy``; with
        ``initial``, the adapter before training, PiSSA, OLoRA and CorDA are exact too. The report has the error of
        each module. Raises ``Refused`` for what has no form as LoRA.
        """
        from registry.verbs import convert

        return convert.convert(
            self._database,
            self._blobs,
            _text(ref),
            to=to,
            name=name,
            rank=rank,
            energy=energy,
            dtype=dtype,
            initial=None if initial is None else _text(initial),
            device=device,
            base_path=base_path,
            tags=tags or {},
            note=note,
            actor=self._config.actor,
            progress=progress,
        )

    def extract(
        self,
        base: str | Path,
        finetuned: str | Path,
        name: str,
        *,
        rank: int | None = None,
        energy: str | float | None = None,
        dtype: str | None = None,
        repo: str | None = None,
        task: str | None = None,
        tags: Mapping[str, str] | None = None,
        license: str | None = None,  # noqa: A002  (the field's own word)
        note: str | None = None,
        progress: Progress | None = None,
    ) -> Extracted:
        """Catalog the difference of two checkpoints (folders or ``hf://owner/repo``) as the next version of ``name``.

        With ``rank`` or ``energy`` a LoRA, whose report has the error of each module; without, a task vector that
        holds every changed parameter. ``repo`` names the base model where ``base`` is a folder. Raises
        ``Incompatible`` for checkpoints of different architectures, ``Refused`` where nothing changed.
        """
        from registry.verbs import extract

        return extract.extract(
            self._database,
            self._blobs,
            base,
            finetuned,
            name,
            rank=rank,
            energy=energy,
            dtype=dtype,
            repo=repo,
            task=task,
            tags=tags or {},
            license=license,
            note=note,
            actor=self._config.actor,
            progress=progress,
        )

    # -- bytes

    def materialize(
        self,
        ref: Reference,
        *,
        into: Target = "adapter",
        base_path: str | Path | None = None,
        out: str | Path | None = None,
        device: str = "auto",
        dtype: str | None = None,
        max_shard_size: int | None = None,
        progress: Progress | None = None,
    ) -> Materialized:
        """Compute a version's bytes as an ``adapter``, or merged into its base as a ``model``.

        The base is read from ``base_path``, or fetched from the Hub at the recorded revision. Without ``out``
        the result is kept in the blob store; with it, a folder is written, whole or not at all. ``dtype`` and
        ``max_shard_size`` (bytes) apply to models; so do several GPUs (``device="cuda:0,cuda:1"``), each of which
        computes whole tensors. Raises ``Conflict`` where ``out`` exists, ``Incompatible`` where the base is another
        one or lacks a targeted tensor.
        """
        from registry.verbs import materialize

        return materialize.materialize(
            self._database,
            self._blobs,
            _text(ref),
            into=into,
            base_path=base_path,
            out=out,
            device=device,
            dtype=dtype,
            max_shard_size=max_shard_size,
            remembered=self._remembered,
            actor=self._config.actor,
            progress=progress,
        )

    def explain(
        self,
        ref: Reference,
        *,
        into: Target = "adapter",
        base_path: str | Path | None = None,
        device: str = "auto",
        dtype: str | None = None,
        max_shard_size: int | None = None,
    ) -> MaterializePlan:
        """What :meth:`materialize` would read, compute and write. Of the base only headers are read.

        Raises what :meth:`materialize` raises without reading the base's weights.
        """
        from registry.verbs import materialize

        return materialize.explain(
            self._database,
            self._blobs,
            _text(ref),
            into=into,
            base_path=base_path,
            device=device,
            dtype=dtype,
            max_shard_size=max_shard_size,
            remembered=self._remembered,
            actor=self._config.actor,
        )

    def checkout(
        self,
        ref: Reference,
        directory: str | Path,
        *,
        for_: str | None = None,
        rank: int | None = None,
        base_path: str | Path | None = None,
    ) -> Checkout:
        """Write a version as a PEFT folder that ``PeftModel.from_pretrained`` loads, or ``for_`` another program.

        ``for_`` is ``vllm`` (one rank for all modules, ``rank`` or the largest), ``older-peft`` (what PEFT 0.4 reads)
        or ``gguf`` (llama.cpp; ``base_path`` is a folder with the base model's ``config.json``). Raises ``Conflict``
        where ``directory`` exists, ``Refused`` for parts that the program does not load, and ``IntegrityFailure`` where
        stored bytes are damaged.
        """
        from registry.verbs import checkout

        return checkout.checkout(
            self._database, self._blobs, _text(ref), directory, for_=for_, rank=rank, base_path=base_path
        )

    def verify(
        self,
        refs: Iterable[Reference] = (),
        *,
        rebuild: bool = False,
        base_path: str | Path | None = None,
        key: str | Path | None = None,
        repair: bool = False,
        sources: Iterable[str | Path] = (),
    ) -> tuple[Verification, ...]:
        """Check stored bytes and digests of the given versions, or of all live ones.

        ``hf://owner/repo[@revision]`` is checked against its provenance and beside this catalog, without its weights
        being downloaded, and with the public ``key`` (a PEM file) against its signature. Raises ``NotFound`` for a repo
        without provenance, ``IntegrityFailure`` where that cannot be read.

        ``rebuild`` computes derived versions again from their recipes and compares the digests; ``base_path`` is
        the base model's folder, for those whose inputs hold parameters whole or use DoRA.

        ``repair`` puts damaged bytes aside and good copies in their places: from ``sources`` (other blob stores, homes
        of other catalogs, bundles; raises ``UsageError`` for anything else), from where they were published or added
        from, or from the recipe. What cannot be healed is reported as it is.
        """
        from registry.verbs import _healing, verify

        with _healing.healer(
            self._database, self._blobs, self._config, sources, base_path, repair=repair
        ) as healer:
            return verify.verify(
                self._database,
                self._blobs,
                _texts(refs),
                rebuild=rebuild,
                base_path=base_path,
                key=key,
                healer=healer,
            )

    def verify_database(
        self,
        *,
        repair: bool = False,
        sources: Iterable[str | Path] = (),
        base_path: str | Path | None = None,
    ) -> DatabaseCheck:
        """Check what the database holds, every row against its seal, and the stored bytes of no live version.

        ``repair`` computes again what other rows determine, and heals bytes as :meth:`verify` does. Nothing is raised
        for damage: it is reported, with the versions that it affects.
        """
        from registry.verbs import _healing, _rot

        with _healing.healer(
            self._database, self._blobs, self._config, sources, base_path, repair=repair
        ) as healer:
            return _rot.check(self._database, self._blobs, healer)

    def fetch(
        self,
        refs: Iterable[Reference],
        *,
        device: str = "auto",
        base_path: str | Path | None = None,
    ) -> tuple[Fetched, ...]:
        """Get the bytes of versions that are only known: from where they were published, or else by their recipe.

        They have to be what they are told to be: raises ``IntegrityFailure`` for another content, and ``NotFound``
        where they can be had nowhere. ``device`` and ``base_path`` are for computing a recipe.
        """
        from registry.verbs import fetch

        return fetch.fetch(
            self._database,
            self._blobs,
            _texts(refs),
            device=device,
            base_path=base_path,
            actor=self._config.actor,
        )

    def watch(self, refs: Iterable[Reference] = ()) -> tuple[Watched, ...]:
        """Whether imported adapters moved on upstream: these, or the latest of each line that came by a branch or tag.

        A repo that cannot be asked is ``unknown``, with the reason. Raises ``UsageError`` for a version that did not
        come from the Hub.
        """
        from registry.verbs import watch

        return watch.watch(self._database, _texts(refs))

    def gc(self, *, apply: bool = False, quarantine: bool = False) -> Garbage:
        """Find bytes that nothing refers to, and leftovers of interrupted work; remove them on ``apply``.

        With ``quarantine`` also the damaged bytes that a repair put aside, which nothing else removes.
        """
        from registry.verbs import gc

        return gc.gc(
            self._database,
            self._blobs,
            apply=apply,
            actor=self._config.actor,
            places=(self._config.home, Path(tempfile.gettempdir())),
            quarantine=quarantine,
        )

    # -- many at once

    def add_all(
        self,
        root: str | Path,
        *,
        prefix: str | None = None,
        base: str | None = None,
        task: str | None = None,
        tags: Mapping[str, str] | None = None,
        license: str | None = None,  # noqa: A002  (the field's own word)
        note: str | None = None,
        progress: Progress | None = None,
    ) -> AddedAll:
        """Catalog every PEFT folder in or below ``root``, each under a name made from its path.

        What cannot be added is told with the reason and holds up nothing else; what was added before is not read
        again unless it changed, so that doing it again goes on where it ended. The options are said of each of them.
        Raises ``NotFound`` where there is no adapter.
        """
        from registry.verbs import add_many

        return add_many.add_many(
            self._database,
            self._blobs,
            root,
            prefix=prefix,
            base=base,
            task=task,
            tags=tags or {},
            license=license,
            note=note,
            seen=self._config.home / "folders.jsonl",
            actor=self._config.actor,
            progress=progress,
        )

    def export(self, file: str | Path, *, blobs: bool = True, progress: Progress | None = None) -> Exported:
        """Write the whole catalog as a bundle, whole or not at all; equal catalogs give equal bytes.

        Without ``blobs`` the bundle holds what is known, but no bytes. Raises ``Conflict`` where ``file`` exists, and
        ``IntegrityFailure`` for a blob that is missing or damaged.
        """
        from registry.verbs import export

        return export.export(self._database, self._blobs, file, with_blobs=blobs, progress=progress)

    def import_bundle(self, file: str | Path, *, progress: Progress | None = None) -> Imported:
        """Bring in a bundle: into an empty catalog exactly, and else what is new and contradicts nothing.

        Raises ``NotFound`` where there is no such file, ``Refused`` for a bundle that is not sound or of a newer format,
        ``IntegrityFailure`` for a damaged one, and ``Conflict`` where a version, a name or a base model is another one here. Then nothing is changed.
        """
        from registry.verbs import import_

        return import_.import_bundle(
            self._database, self._blobs, file, actor=self._config.actor, progress=progress
        )

    def sync_dir(
        self,
        directory: str | Path,
        alias: str,
        *,
        base: str | None = None,
        max_rank: int | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> SyncedFolder:
        """Keep a folder with one PEFT folder per adapter, each at ``alias``, for vLLM and LoRAX to load from.

        Only what they can serve is in it; the others are told with the reason. A reader sees an adapter as it was, or
        as it is, never in between. What is there and was not put there by a sync is left alone. Raises ``NotFound`` where
        no adapter has the alias and the folder was in step with another one, which would leave it empty.
        """
        from registry.verbs import sync_dir

        return sync_dir.sync_dir(
            self._database,
            self._blobs,
            directory,
            alias,
            base=base,
            max_rank=max_rank,
            dry_run=dry_run,
            progress=progress,
        )

    # -- what is said about versions

    def set_alias(
        self,
        name: str,
        alias: str,
        version: int | str,
        *,
        expect: int | Literal["none"] | None = None,
        protect: bool = False,
    ) -> Alias:
        """Point ``name@alias`` at a version number, alias or reference of ``name``.

        With ``expect`` the move happens only if the alias points there now (``"none"``: does not exist);
        otherwise ``Conflict``. Setting what is set already changes nothing (``moved`` False). With ``protect``, and
        for an alias that was protected before, every later move needs ``expect``. Raises ``Refused`` for a version
        that is revoked or affected.
        """
        from registry.verbs import annotate

        return annotate.set_alias(
            self._database, name, alias, version, expect=expect, protect=protect, actor=self._config.actor
        )

    def protect_alias(self, name: str, alias: str, *, protected: bool = True) -> Alias:
        """Let an alias move, and be deleted, only with ``expect``; or no longer. Raises ``NotFound``."""
        from registry.verbs import annotate

        return annotate.protect_alias(
            self._database, name, alias, protected=protected, actor=self._config.actor
        )

    def delete_alias(self, name: str, alias: str, *, expect: int | Literal["none"] | None = None) -> Alias:
        """Remove an alias; returns it as it was. Raises ``NotFound``, or ``Conflict`` as :meth:`set_alias` does."""
        from registry.verbs import annotate

        return annotate.delete_alias(self._database, name, alias, expect=expect, actor=self._config.actor)

    def aliases(self, name: str | None = None) -> tuple[Alias, ...]:
        """All aliases, or those of one adapter."""
        from registry.verbs import annotate

        return annotate.aliases(self._database, name)

    def set_tags(self, ref: Reference, tags: Mapping[str, str]) -> Tagged:
        """Set tags on a version, overwriting those of the same key."""
        from registry.verbs import annotate

        return annotate.set_tags(self._database, _text(ref), tags, actor=self._config.actor)

    def delete_tags(self, ref: Reference, keys: Iterable[str]) -> Tagged:
        """Remove tags from a version. Raises ``NotFound`` for a key it does not have."""
        from registry.verbs import annotate

        return annotate.delete_tags(self._database, _text(ref), list(keys), actor=self._config.actor)

    def set_note(self, ref: Reference, note: str | None) -> Version:
        """Write a version's note, replacing the one it has; None removes it."""
        from registry.verbs import annotate

        return annotate.set_note(self._database, _text(ref), note, actor=self._config.actor)

    def add_evaluation(
        self, ref: Reference, metric: str, value: float, *, dataset: str, split: str | None = None
    ) -> Evaluation:
        """Record a metric's value for a version on a dataset; a second value for the same replaces the first."""
        from registry.verbs import annotate

        return annotate.add_evaluation(
            self._database, _text(ref), metric, value, dataset=dataset, split=split, actor=self._config.actor
        )

    def sweep(
        self,
        name: str,
        expression: str,
        *,
        over: Mapping[str, str | Sequence[str | Decimal | int]],
        metric: str | Sequence[str],
        run: str | None = None,
        evaluate: Callable[[Path, Mapping[str, Decimal]], Mapping[str, float]] | None = None,
        evaluator: str | None = None,
        minimize: bool | None = None,
        constrain: str | Sequence[str] = (),
        search: Literal["grid", "bayes"] = "grid",
        budget: int | None = None,
        seed: int = 0,
        jobs: int = 1,
        timeout: float | None = None,
        retries: int = 0,
        dataset: str = "local",
        split: str | None = None,
        record: bool = True,
        again: bool = False,
        dry_run: bool = False,
        rank: int | None = None,
        energy: str | float | None = None,
        dtype: str | None = None,
        base_path: str | Path | None = None,
        device: str = "auto",
        progress: Progress | None = None,
    ) -> Sweep:
        """Measure an expression with ``{variables}`` in it at many values, and make the best point a version of ``name``.

        ``over`` says which values: ``{"w": "0:1:0.1"}``, ``"0.1,0.3,1"`` or a sequence. Each point is computed once and
        measured by ``run`` (a command with ``{path}``, whose last line is a JSON object of numbers) or by ``evaluate``, a
        function of the adapter's folder and the values. What was measured before by the same command, or by a function
        of the same name ``evaluator``, is not measured again, unless ``again``. ``metric`` is one or several of ``name``,
        ``name:min`` or ``name:max``, and ``minimize`` says what is better where it does not; the first decides, and of
        several the Pareto front is marked. ``constrain`` has conditions such as ``"ppl < 21"``. ``search="bayes"`` looks
        at ``budget`` points that Optuna chooses by ``seed``, which also feeds methods that draw at random. With
        ``record`` False nothing becomes a version; ``dry_run`` only tells the points. A point that fails is recorded
        so, and tried again the next time. ``evaluate`` is called in threads, ``jobs`` at once. Raises what
        :meth:`compose` raises.
        """
        from registry.verbs import sweep

        asked = sweep.Asked(
            name, expression, over, [metric] if isinstance(metric, str) else list(metric), run=run, evaluate=evaluate,
            evaluator=evaluator, minimize=minimize, constrain=[constrain] if isinstance(constrain, str) else list(constrain),
            search=search, budget=budget, seed=seed, jobs=jobs, timeout=timeout, retries=retries, dataset=dataset,
            split=split, record=record, again=again, plan_only=dry_run, rank=rank, energy=energy, dtype=dtype,
            base_path=base_path, device=device,
        )  # fmt: skip
        return sweep.sweep(
            self._database,
            self._blobs,
            asked,
            place=self._config.home,
            actor=self._config.actor,
            progress=progress,
        )

    def sweeps(self, name: str | None = None) -> tuple[Sweep, ...]:
        """All sweeps, or those for one adapter, newest first, without their points."""
        from registry.verbs import sweeps

        return sweeps.listing(self._database, name)

    def sweep_result(self, number: int) -> Sweep:
        """A sweep with what was measured at its points. Raises ``NotFound``."""
        from registry.verbs import sweeps

        return sweeps.show(self._database, number)

    def run_evaluation(
        self,
        refs: Reference | Iterable[Reference],
        *,
        run: str | None = None,
        evaluate: Callable[[Path, Mapping[str, Decimal]], Mapping[str, float]] | None = None,
        timeout: float | None = None,
        retries: int = 0,
        dataset: str = "local",
        split: str | None = None,
        progress: Progress | None = None,
    ) -> tuple[Evaluation, ...]:
        """Measure versions by a command, or a function, and record every metric it gives; see :meth:`sweep`.

        Raises ``RegistryError``, naming the version, where that fails; what was measured before it stays recorded.
        """
        from registry.verbs import sweep

        return sweep.run_evaluation(
            self._database,
            self._blobs,
            [_text(refs)] if isinstance(refs, str | Version) else _texts(refs),
            run=run,
            evaluate=evaluate,
            timeout=timeout,
            retries=retries,
            dataset=dataset,
            split=split,
            place=self._config.home,
            actor=self._config.actor,
            progress=progress,
        )

    def evaluations(self, ref: Reference) -> tuple[Evaluation, ...]:
        """The evaluations of a version, by dataset, split and metric."""
        return self.show(ref).evaluations

    def compare_evaluations(self, ref: Reference, *, depth: int = 1) -> Comparison:
        """The evaluations of a version beside those of what it was derived from, ``depth`` steps up."""
        from registry.verbs import lookup

        return lookup.compare(self._database, _text(ref), depth=depth)

    def events(
        self,
        subject: str | None = None,
        *,
        actor: str | None = None,
        action: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> tuple[Event, ...]:
        """Who changed what and when, newest first.

        ``subject`` is an adapter's name (with all its versions), one version such as ``toxic@3``, or what else events
        are about. ``since`` is inclusive, ``until`` exclusive; without a zone they are UTC. ``before`` is the ``id`` of
        the last event of the page before.
        """
        from registry.verbs import lookup

        return lookup.events(
            self._database,
            subject=subject,
            actor=actor,
            action=action,
            since=since,
            until=until,
            limit=limit,
            before=before,
        )

    def delete(self, ref: Reference) -> Deleted:
        """Turn a version into a tombstone: its number, digest and lineage stay, its bytes go with ``gc``.

        Raises ``Conflict`` while an alias points at it.
        """
        from registry.verbs import annotate

        return annotate.delete(self._database, _text(ref), actor=self._config.actor)

    def revoke(self, ref: Reference, reason: str) -> Revocation:
        """Mark a version as bad, and with it everything derived from it: none is published or composed any more.

        A tombstone can be revoked too. Raises ``Conflict`` where it was revoked for another reason.
        """
        from registry.verbs import revoke

        return revoke.revoke(self._database, _text(ref), reason, actor=self._config.actor)

    def unrevoke(self, ref: Reference) -> Revocation:
        """Take a revocation back. What another one affects stays so. Raises ``NotFound`` where there is none."""
        from registry.verbs import revoke

        return revoke.unrevoke(self._database, _text(ref), actor=self._config.actor)

    # -- the Hub

    def publish(
        self,
        ref: Reference,
        repo: str,
        *,
        into: Target = "adapter",
        private: bool = True,
        revision: str | None = None,
        message: str | None = None,
        base_path: str | Path | None = None,
        adopt: bool = False,
        propose: bool = False,
        tag: str | None = None,
        license: str | None = None,  # noqa: A002  (the field's own word)
        despite_license: str | None = None,
        sign_key: str | Path | None = None,
        card_template: str | Path | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Publication:
        """Push a version to a Hub repo in one commit, with its card and provenance, and verify the push.

        Publishing the same content again makes no commit (``created`` False). A repo that exists and was not
        made by this registry is left alone unless ``adopt``. ``private`` makes a new repo private and refuses an
        existing public one. ``propose`` opens a pull request instead, unless there is one with this content;
        ``tag`` is given to the commit. The token is the environment's (``HF_TOKEN``) or the one of ``hf auth login``.

        Without ``license`` it is the one that follows from those of the inputs and the base model; where they forbid
        what is asked, it is ``Refused`` unless ``despite_license`` gives a reason, which is recorded. ``sign_key`` is a
        private key (PEM, EC), ``card_template`` a file; their defaults are ``REGISTRY_SIGNING_KEY`` and
        ``REGISTRY_CARD_TEMPLATE``. Raises ``HubUnauthorized``, ``HubUnavailable``, ``NotFound``, ``Refused``
        for what may not be published and for a card that the Hub refuses, or ``Conflict`` when somebody pushed meanwhile
        or the tag is on another commit.
        """
        from registry.verbs import publish
        from registry.verbs._release import presentation

        return publish.publish(
            self._database,
            self._blobs,
            _text(ref),
            repo,
            into=into,
            private=private,
            revision=revision,
            message=message,
            base_path=base_path,
            adopt=adopt,
            propose=propose,
            tag=tag,
            dry_run=dry_run,
            remembered=self._remembered,
            actor=self._config.actor,
            progress=progress,
            presentation=presentation(license, despite_license, sign_key, card_template),
        )

    def card(
        self,
        ref: Reference,
        repo: str | None = None,
        *,
        into: Target = "adapter",
        private: bool = True,
        license: str | None = None,  # noqa: A002  (the field's own word)
        despite_license: str | None = None,
        card_template: str | Path | None = None,
    ) -> Card:
        """The card that :meth:`publish` would write for a version, without sending or recording anything.

        Raises ``UsageError`` for a template that fails, with its line.
        """
        from registry.verbs import card
        from registry.verbs._release import presentation

        return card.card(
            self._database,
            self._blobs,
            _text(ref),
            repo,
            into=into,
            private=private,
            presentation=presentation(license, despite_license, card_template=card_template),
        )

    def unpublish(
        self,
        what: Reference,
        *,
        revision: str | None = None,
        delete: bool = False,
        reason: str | None = None,
    ) -> Unpublished:
        """Take what was published off a Hub repo again: ``what`` is the repo, or a version that is in just one.

        One commit removes our files, as far as nobody changed them, and leaves a card that says so; the history still
        has them. ``delete`` removes a whole repo, given by its name, that this registry made or adopted. Running it
        again finishes what was interrupted. Raises ``NotFound`` where nothing was published, ``Conflict`` where
        another version is there by now, ``UsageError`` for a version that is in several repos, and the Hub's errors.
        """
        from registry.verbs import unpublish

        return unpublish.unpublish(
            self._database,
            _text(what),
            revision=revision,
            delete=delete,
            reason=reason,
            actor=self._config.actor,
        )

    def publications(self, ref: Reference | None = None, *, check: bool = False) -> tuple[Publication, ...]:
        """What was published where; ``check`` asks the Hub whether it still holds it.

        That is one request for each branch that did not move. Where the Hub could not be asked, ``remote`` stays
        None and ``warnings`` says why. Raises ``NotFound`` for an unknown version.
        """
        from registry.verbs import publish

        return publish.publications(
            self._database, None if ref is None else _text(ref), check=check, actor=self._config.actor
        )

    def add_rule(
        self,
        selector: str,
        repo: str,
        *,
        alias: str | None = None,
        into: Target = "adapter",
        private: bool = True,
        revision: str | None = None,
        propose: bool = False,
        adopt: bool = False,
        tag: str | None = None,
        license: str | None = None,  # noqa: A002  (its name on the command line)
    ) -> Rule:
        """Say once what :meth:`sync` publishes where: the version that ``alias`` means, or without one the latest.

        ``selector`` is an adapter's name, or a filter that a version has to fit. ``repo``, ``revision`` and ``tag`` are
        templates, of the fields ``{name}``, ``{fullname}``, ``{version}``, ``{alias}``, ``{task}``, ``{kind}`` and
        ``{base}``. The same rule again is a no-op (``created`` False). Raises ``UsageError`` for templates that cannot
        give a repo, branch or tag, ``NotFound`` for a name that there is not, and ``Conflict`` where a rule asks for the
        same with other options.
        """
        from registry.catalog.rules import Draft
        from registry.verbs import rules

        draft = Draft(selector, alias, repo, revision, into, private, adopt, propose, tag, license)
        return rules.add(self._database, draft, actor=self._config.actor)

    def rules(self) -> tuple[Rule, ...]:
        """Every rule, oldest first."""
        from registry.verbs import rules

        return rules.listing(self._database)

    def delete_rule(self, number: int) -> Rule:
        """Remove a rule, and return it as it was; what it led to stays published. Raises ``NotFound``."""
        from registry.verbs import rules

        return rules.delete(self._database, number, actor=self._config.actor)

    def sync(
        self,
        rules: Iterable[int] = (),
        *,
        dry_run: bool = False,
        repair: bool = False,
        jobs: int = 4,
        retries: int = 3,
        backoff: float = 2.0,
        base_path: str | Path | None = None,
        on_outcome: Callable[[Synced], None] | None = None,
    ) -> SyncReport:
        """Publish whatever the rules, all or those with these numbers, ask for and is not there yet.

        What is there costs one request for each place; nothing is pushed twice, also where syncs run side by side.
        What the Hub no longer holds as it was published is told, and pushed again only with ``repair``. ``jobs`` repos
        are pushed to at once; what fails for a time is tried ``retries`` times more, after ``backoff`` seconds and
        twice as many each time. ``on_outcome`` is called with each outcome, from any thread but one at a time. What
        fails is an outcome and no error; raised are ``HubUnauthorized`` without a token, ``NotFound`` for a rule that
        there is not, and ``StorageFailure``.
        """
        from registry.verbs import sync

        options = sync.Options(dry_run, repair, jobs, retries, backoff, base_path)
        return sync.sync(
            self._database,
            self._blobs,
            tuple(rules),
            options,
            remembered=self._remembered,
            actor=self._config.actor,
            told=on_outcome,
        )

    # -- base models

    def base_models(self) -> tuple[BaseModelInfo, ...]:
        """Every base model the catalog knows, by name."""
        from registry.verbs import bases

        return bases.listing(self._database)

    def base_model(self, name: str) -> BaseModelInfo:
        """One base model: by alias, ``repo[@revision]``, or the start of its fingerprint. Raises ``NotFound``."""
        from registry.verbs import bases

        return bases.show(self._database, name)

    def base_tensors(self, name: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Dtype and shape of each tensor of a base model by name; empty until its weights were seen."""
        from registry.verbs import bases

        return bases.tensors(self._database, name)

    def add_base_model(
        self, name: str, *, base_path: str | Path | None = None, replace: bool = False
    ) -> BaseModelInfo:
        """Record what a base model's weights are and hold, so that adapters are checked against it.

        Read from the checkpoint folder ``base_path``, or from the Hub: there only digests and headers are read. Raises
        ``Incompatible`` where other weights are recorded, unless ``replace`` says that they were recorded wrongly.
        """
        from registry.verbs import bases

        return bases.add(
            self._database,
            name,
            base_path=base_path,
            replace=replace,
            remembered=self._remembered,
            actor=self._config.actor,
        )

    def set_base_license(self, name: str, license: str | None) -> BaseModelInfo:  # noqa: A002  (the field's own word)
        """Record a base model's license, from which those of its adapters follow; None forgets it.

        Raises ``NotFound``.
        """
        from registry.verbs import bases

        return bases.set_license(self._database, name, license, actor=self._config.actor)

    def set_base_alias(self, alias: str, name: str) -> BaseAlias:
        """Give a base model a short name, which ``base`` arguments and filters take. Raises ``NotFound``."""
        from registry.verbs import bases

        return bases.set_alias(self._database, alias, name, actor=self._config.actor)

    def delete_base_alias(self, alias: str) -> BaseAlias:
        """Remove a base model's short name; returns it as it was. Raises ``NotFound``."""
        from registry.verbs import bases

        return bases.delete_alias(self._database, alias, actor=self._config.actor)

    def base_aliases(self) -> tuple[BaseAlias, ...]:
        """All short names of base models."""
        from registry.verbs import bases

        return bases.aliases(self._database)

    # -- merge methods, which need no catalog

    @staticmethod
    def methods() -> tuple[MethodInfo, ...]:
        """The operators of expressions and all merge methods, with their formulas, sources and parameters."""
        from registry.verbs import methods

        return methods.methods()

    @staticmethod
    def method(name: str) -> MethodInfo:
        """One merge method or operator. Raises ``Refused``, listing the known ones, for another name."""
        from registry.verbs import methods

        return methods.method(name)

    # -- copies of it all

    @staticmethod
    def backup(
        file: str | Path,
        home: str | Path | None = None,
        *,
        database_url: str | None = None,
        blobs: str | None = None,
        with_blobs: bool = True,
        replace: bool = False,
        progress: Progress | None = None,
    ) -> Backup:
        """Write the whole catalog, exactly as it is, to a new private ``file``, while others work with it.

        Also that of an earlier release. Raises ``Conflict`` where the file exists, unless ``replace``,
        ``IntegrityFailure`` where a blob is damaged or missing, and ``NotFound`` where there is no catalog.
        """
        from registry.verbs import backup

        config = settings.load(home, database_url=database_url, blobs=blobs)
        return backup.backup(config, file, with_blobs=with_blobs, replace=replace, progress=progress)

    @staticmethod
    def check_backup(file: str | Path, *, progress: Progress | None = None) -> Backup:
        """Read every byte of a backup. Raises ``IntegrityFailure`` or ``Refused`` unless it is whole and sound."""
        from registry.verbs import backup

        return backup.check(file, progress=progress)

    @staticmethod
    def restore(
        file: str | Path,
        home: str | Path | None = None,
        *,
        database_url: str | None = None,
        blobs: str | None = None,
        progress: Progress | None = None,
    ) -> Restored:
        """Make the catalog that a backup holds, whole or not at all, in a home or database that holds none.

        The backup of an earlier release becomes a catalog of that release, to be upgraded. Raises ``Conflict`` where a
        catalog is there already, ``IntegrityFailure`` or ``Refused`` for a file that is damaged or no backup, and
        ``SchemaOutdated`` for one of a later release.
        """
        from registry.verbs import backup

        config = settings.load(home, database_url=database_url, blobs=blobs)
        return backup.restore(config, file, progress=progress)

    # -- the schema

    @staticmethod
    def schema(home: str | Path | None = None, *, database_url: str | None = None) -> Schema:
        """The schema revision of the catalog, beside the one this release needs. Changes nothing."""
        from registry.catalog import migrate

        return migrate.status(settings.load(home, database_url=database_url).database_url)

    @staticmethod
    def check_schema(home: str | Path | None = None, *, database_url: str | None = None) -> Schema:
        """The same, and what of its tables, columns, indexes, constraints and triggers is not what this release makes."""
        from registry.catalog import migrate

        return migrate.check(settings.load(home, database_url=database_url).database_url)

    @staticmethod
    def upgrade(home: str | Path | None = None, *, database_url: str | None = None) -> Schema:
        """Bring the catalog's schema to this release's revision, one transaction per step."""
        from registry.catalog import migrate

        return migrate.upgrade(settings.load(home, database_url=database_url).database_url)

    @staticmethod
    def roles(
        home: str | Path | None = None,
        *,
        database_url: str | None = None,
        prefix: str = "registry",
        apply: bool = False,
    ) -> Roles:
        """The roles ``PREFIX_reader``, ``_contributor``, ``_publisher`` and ``_admin`` of a catalog on PostgreSQL.

        ``apply`` makes them and their grants, and revokes what is too much; without it nothing is changed. Raises
        ``UsageError`` for SQLite and ``Denied`` where the login may not do it.
        """
        from registry.catalog import roles

        url = settings.load(home, database_url=database_url).database_url
        return roles.roles(url, prefix=prefix, apply=apply)


def _text(ref: Reference) -> str:
    return ref.ref if isinstance(ref, Version) else ref


def _texts(refs: Iterable[Reference]) -> list[str]:
    """Also of one alone: a text would otherwise be taken letter by letter."""
    return [refs] if isinstance(refs, str) else [_text(ref) for ref in refs]
