"""What the registry hands out: one frozen model per thing, which is also its JSON on the command line.

Digests are ``"sha256:…"`` strings, references ``"name@3"``, times timezone-aware UTC, sizes bytes.
Coefficients are exact decimals written as strings.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Target = Literal["adapter", "model"]


class Result(BaseModel):
    """Base of everything below: immutable, and strict about its own fields."""

    # Built when first used: a command uses few of these.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class BaseModelIdentity(Result):
    """The frozen model an adapter was trained on. ``fingerprint`` is None until its weights were seen."""

    repo: str | None
    revision: str | None = None
    fingerprint: str | None = None

    def __str__(self) -> str:
        name = self.repo or "an unnamed base model"
        return f"{name}@{self.revision}" if self.revision else name


class BaseModelInfo(Result):
    """A base model as the catalog knows it.

    ``same_as`` are other names of the same weights, ``versions`` counts what was trained on it under this name,
    tombstones included. ``tensors``, ``parameters`` and ``dtypes`` are None or empty until its weight files, or their
    headers, were seen.
    """

    repo: str
    revision: str | None
    fingerprint: str | None
    aliases: tuple[str, ...] = ()
    same_as: tuple[str, ...] = ()
    versions: int = 0
    tensors: int | None = None
    parameters: int | None = None
    dtypes: tuple[str, ...] = ()
    license: str | None = None

    @property
    def name(self) -> str:
        """``repo`` or ``repo@revision``."""
        return f"{self.repo}@{self.revision}" if self.revision else self.repo


class BaseAlias(Result):
    """A short name for a base model."""

    alias: str
    base_model: BaseModelIdentity
    updated_at: datetime
    updated_by: str


class RecipeInfo(Result):
    """How a derived version is made: as typed, as pinned, and the digest of its canonical recipe."""

    expression: str
    resolved: str
    digest: str


class Parent(Result):
    """A version that another one was derived from.

    ``coefficient`` is the exact decimal in front of it where it has one: None inside a method whose weights
    do not simply multiply, and for parents that were declared with ``--parent``.
    """

    ref: str
    digest: str
    coefficient: str | None = None
    relation: Literal["input", "declared"] = "input"


class Evaluation(Result):
    """A metric's value for a version on a dataset."""

    ref: str
    metric: str
    value: float
    dataset: str
    split: str | None = None
    created_at: datetime
    created_by: str


class Compared(Result):
    """One metric on one dataset: the version's ``value``, and by reference those of what it was derived from.

    A version that was not evaluated so has None.
    """

    metric: str
    dataset: str
    split: str | None
    value: float | None
    others: dict[str, float | None]


class Comparison(Result):
    """A version's evaluations beside those of its ``others``, the versions it was derived from, nearest first."""

    ref: str
    others: tuple[str, ...]
    rows: tuple[Compared, ...]


class Objective(Result):
    """A metric that a sweep looks for the smallest (``min``) or the largest (``max``) value of."""

    metric: str
    direction: Literal["min", "max"]


class SweepPoint(Result):
    """One point of a sweep: the values as exact decimals, the expression they give, its recipe, and what was measured.

    ``metrics`` is None where the evaluation failed (``state`` is ``failed`` or ``timeout``, and ``error`` says why).
    ``feasible`` says that the constraints hold, ``front`` that no other feasible point is as good in every metric and
    better in one. ``attempts`` is 0 where the metrics were known before; ``seconds`` is the time of the last attempt.
    """

    position: int
    values: dict[str, str]
    expression: str
    recipe: str
    metrics: dict[str, float] | None
    state: Literal["ok", "failed", "timeout", "known", "new"]
    feasible: bool = False
    front: bool = False
    attempts: int = 0
    seconds: float = 0.0
    error: str | None = None


class Sweep(Result):
    """A sweep: ``expression`` at all values of its ``variables``, and what came of it.

    ``pins`` says which version each reference of the expression means. ``metrics`` are the objectives, first things
    first. ``chosen`` is the position of the best point and ``ref`` the version that it became, where there is one.
    Of the points, ``computed`` counts adapters that this call computed, ``evaluated`` those that it measured, ``reused``
    those whose metrics were known, and ``failed`` those without metrics; of a sweep as it is recorded, ``computed`` is
    None and the others count what all calls of it did. ``id`` is None for what was only planned. ``advice`` says, where no point is chosen, which came nearest or why it failed.
    """

    id: int | None
    name: str
    expression: str
    pins: dict[str, str]
    variables: dict[str, str]
    evaluator: str
    metrics: tuple[Objective, ...]
    constraints: tuple[str, ...] = ()
    search: Literal["grid", "bayes"]
    budget: int | None = None
    seed: int = 0
    dataset: str
    split: str | None = None
    state: Literal["planned", "running", "stopped", "done"]
    points: tuple[SweepPoint, ...] = ()
    chosen: int | None = None
    ref: str | None = None
    created: bool = False
    computed: int | None = None
    evaluated: int = 0
    reused: int = 0
    failed: int = 0
    created_at: datetime | None = None
    created_by: str | None = None
    finished_at: datetime | None = None
    warnings: tuple[str, ...] = ()
    advice: str | None = None


class Event(Result):
    """Who changed what and when. ``detail`` depends on the ``action``; ``id`` grows with every event."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


class Withdrawn(Result):
    """That and why something was unpublished, when, and by whom."""

    reason: str | None
    at: datetime
    by: str


class Publication(Result):
    """A version pushed, or about to be pushed, to a Hub repo.

    ``state``: ``planned`` (dry run, nothing was sent), ``pending`` (begun, outcome not yet known), ``done``, ``failed``,
    ``withdrawn`` (unpublished since). ``created`` is False when the repo already held this content and no commit was made.
    ``pull_request`` is the number of the pull request it was pushed to instead of the branch ``revision`` (0 where none
    was opened yet), ``tag`` the tag that the commit is given there, once ``tagged``.
    ``remote`` is filled by a check: ``same``, ``moved`` (other commits since, our files unchanged),
    ``changed`` (our files differ), ``gone``, ``superseded`` (a later publication took its place), and of a pull request
    that was not merged ``open`` or ``closed``. ``error`` says why one failed.
    """

    ref: str
    repo: str
    revision: str
    target: Target
    state: Literal["planned", "pending", "done", "failed", "withdrawn"]
    commit: str | None = None
    url: str | None = None
    created: bool = True
    files: dict[str, str] = Field(default_factory=dict)
    pull_request: int | None = None
    tag: str | None = None
    tagged: bool = False
    withdrawn: Withdrawn | None = None
    error: str | None = None
    remote: Literal["same", "moved", "changed", "gone", "superseded", "open", "closed"] | None = None
    created_at: datetime | None = None
    created_by: str | None = None
    warnings: tuple[str, ...] = ()


class Card(Result):
    """The README.md that publishing a version to ``repo`` would write, where nobody else wrote in it.

    ``license`` is what the card claims. ``warnings`` say what would keep it from being published for its license.
    """

    ref: str
    repo: str | None
    target: Target
    license: str | None
    text: str
    warnings: tuple[str, ...] = ()


class Unpublished(Result):
    """What was taken off the Hub: the versions that were published there, and the commit that did it.

    ``deleted`` says that the whole repo was removed, so that there is no commit. ``kept`` are files of other people
    that stay. ``changed`` is False where nothing was there any more.
    """

    repo: str
    revision: str
    refs: tuple[str, ...]
    reason: str | None
    deleted: bool
    commit: str | None = None
    url: str | None = None
    kept: tuple[str, ...] = ()
    changed: bool = True


class Rule(Result):
    """What is to be published where: the version that ``alias`` means of every adapter that is selected.

    ``selector`` is an adapter's name or a filter, ``alias`` None for the latest version. ``repo``, ``revision`` and
    ``tag`` are templates, whose fields are ``{name}`` (without its team, ``{fullname}`` with it), ``{version}``,
    ``{alias}``, ``{task}``, ``{kind}`` and ``{base}``. ``propose`` opens a pull request instead of pushing.
    """

    id: int
    selector: str
    alias: str | None
    repo: str
    revision: str | None
    target: Target
    private: bool = True
    adopt: bool = False
    propose: bool = False
    tag: str | None = None
    license: str | None = None
    created_at: datetime
    created_by: str
    created: bool = True


class Synced(Result):
    """What became of one thing that a rule asks for, or of a rule that asks for nothing that can be.

    ``outcome``: ``published``, ``proposed`` (a pull request was opened), ``tagged`` (only its tag was missing),
    ``unchanged``, ``planned`` (dry run: it would be pushed), ``drifted`` (it was published, and the Hub does not hold it
    any more; ``repair`` pushes it again), ``withheld`` (somebody unpublished this version there), ``blocked`` (revoked,
    forbidden by a license, or asked for differently by another rule), ``failed``. ``private`` says who is to see a new
    repo, ``proposes`` that a pull request is what is asked for. ``reason``, ``hint`` and ``code`` say
    more, as an error does.
    """

    rules: tuple[int, ...]
    ref: str | None
    repo: str | None
    revision: str | None
    target: Target
    outcome: Literal[
        "published", "proposed", "tagged", "unchanged", "planned", "drifted", "withheld", "blocked", "failed"
    ]
    reason: str | None = None
    hint: str | None = None
    code: str | None = None
    commit: str | None = None
    url: str | None = None
    pull_request: int | None = None
    tag: str | None = None
    private: bool | None = None
    proposes: bool = False
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


class SyncReport(Result):
    """What a sync did, or would do: ``counts`` by outcome, and every outcome in the order of repos.

    ``pending`` says that something that the rules ask for is not there: after a dry run or a check what would be
    pushed, and always what failed or drifted. ``catalog`` is the address of the database that the rules are in, without
    passwords, ``began_at`` when it began. Both are None of a sync that came to an early end.
    """

    applied: bool
    pending: bool
    rules: int
    counts: dict[str, int]
    results: tuple[Synced, ...]
    catalog: str | None = None
    began_at: datetime | None = None
    seconds: float | None = None


class Revoked(Result):
    """Why a version was revoked, when, and by whom."""

    reason: str
    at: datetime
    by: str


class Version(Result):
    """One immutable, numbered entry of an adapter.

    ``rank`` is the largest LoRA rank among its modules (None for kinds without one), ``parameters`` the
    number of adapter parameters, ``size`` the bytes of its files. ``not_composable`` names every part whose
    maths is not implemented; an adapter with such parts is cataloged but refused as an input.
    ``deleted_at`` is set on a tombstone. ``revoked`` says why it must not be used any more, ``affected_by`` names
    the revoked versions that it was derived from, over any number of steps.

    ``source_revision`` is the branch or tag of the Hub that ``source`` was found by. ``origin`` is the published
    provenance, ``hf://REPO@COMMIT#REF``, that recipe, parents and license are told by where they are not this
    catalog's own; ``held`` is False of a version that is only known from such, whose bytes are not here. ``sweep`` is the
    first sweep of this catalog whose best point it is.
    """

    ref: str
    name: str
    version: int
    kind: str
    task: str | None
    base_model: BaseModelIdentity
    digest: str
    rank: int | None
    parameters: int
    dtype: str
    size: int
    modules: int
    aliases: tuple[str, ...] = ()
    tags: dict[str, str] = Field(default_factory=dict)
    license: str | None = None
    note: str | None = None
    source: str | None = None
    source_revision: str | None = None
    origin: str | None = None
    held: bool = True
    recipe: RecipeInfo | None = None
    sweep: int | None = None
    parents: tuple[Parent, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    publications: tuple[Publication, ...] = ()
    not_composable: tuple[str, ...] = ()
    created_at: datetime
    created_by: str
    deleted_at: datetime | None = None
    revoked: Revoked | None = None
    affected_by: tuple[str, ...] = ()


class Pinned(Result):
    """What a reference means now: a version by its number, and its content."""

    ref: str
    name: str
    version: int
    digest: str
    kind: str
    base_model: BaseModelIdentity


class Added(Version):
    """The version that holds the content; ``created`` is False when it was there already."""

    created: bool
    warnings: tuple[str, ...] = ()


class ModuleReport(Result):
    """What became of one module: numbers by name (``rank``, ``energy`` kept, relative ``error`` …)."""

    module: str
    values: dict[str, float]


class Extracted(Added):
    """The version that holds what fine-tuning changed; ``report`` says what was lost where it was cut to a rank."""

    report: tuple[ModuleReport, ...] = ()


class Composed(Version):
    """The composed version.

    ``created`` is False when the adapter already had a version with this recipe; ``cached`` is True when the
    recipe's output was known and nothing had to be computed.
    """

    created: bool
    cached: bool
    warnings: tuple[str, ...] = ()
    report: tuple[ModuleReport, ...] = ()


class CheckedInput(Result):
    """One adapter an expression resolves to."""

    ref: str
    digest: str
    kind: str
    base_model: BaseModelIdentity
    rank: int | None
    parameters: int
    dtype: str
    coefficient: str | None


class CheckedModule(Result):
    """One module of what an expression would give.

    ``form`` is ``linear``, ``embedding``, ``conv``, ``rescaling`` ((IA)³), or what else is stored whole. ``ranks`` are
    the inputs' in their order, None where one lacks the module or has no rank there; ``rank`` is the result's, at
    most. ``exact`` is False where the result is dense and an adapter holds an approximation of that rank; a merged
    model has it exactly.
    """

    module: str
    shape: tuple[int, ...]
    form: str
    ranks: tuple[int | None, ...]
    rank: int | None
    exact: bool


class Cost(Result):
    """What composing would take: bytes ``read`` and, at most, ``written``, and floating-point ``operations``.

    The operations are a rough estimate: of use to tell seconds from hours.
    """

    read: int
    written: int
    operations: int


class Range(Result):
    """A measure over modules."""

    mean: float
    min: float
    max: float


class ModuleConflict(Result):
    """Two inputs in one module. Each measure is None where it is not defined, as for a zero delta.

    ``cosine`` of the two deltas, each with the sign of its coefficient: 1 the same direction, −1 they cancel.
    ``column_overlap`` and ``row_overlap`` of the spaces that the deltas' columns and rows span: 0 orthogonal, 1 one
    holds the other. ``sign_agreement`` is the share of elements, of those zero in neither, where both have one sign;
    ``sampled`` says that it was taken on a grid of rows and columns. Formulas are in ``registry.interference``.
    """

    module: str
    cosine: float | None
    column_overlap: float | None
    row_overlap: float | None
    sign_agreement: float | None
    sampled: bool


class Conflict(Result):
    """Two inputs of an expression and how much they get in each other's way, over the modules both have.

    ``common`` counts these modules, ``modules`` holds those that were measured; each :class:`Range` is over them, and
    None where no module has the measure.
    """

    a: str
    b: str
    common: int
    cosine: Range | None
    column_overlap: Range | None
    row_overlap: Range | None
    sign_agreement: Range | None
    modules: tuple[ModuleConflict, ...]


class Conflicts(Result):
    """How the inputs of an expression get in each other's way, in all their modules: one of ``pairs`` for every two.

    ``warnings`` name the inputs that were revoked or deleted: nothing is composed of them any more.
    """

    expression: str
    resolved: str
    pairs: tuple[Conflict, ...]
    warnings: tuple[str, ...] = ()


class Check(Result):
    """What composing an expression would do. Nothing is written.

    ``cached`` is True when its output is known already. ``rank``, ``parameters`` and ``size`` are upper
    bounds where a method decides them from the data. ``exact`` says that no module is approximated, ``layout``
    has one row per module, and ``conflicts`` one per pair of inputs, where they were measured.
    """

    expression: str
    resolved: str
    recipe_digest: str
    kind: str
    base_model: BaseModelIdentity
    dtype: str
    inputs: tuple[CheckedInput, ...]
    modules: int
    rank: int | None
    parameters: int
    size: int
    cached: bool
    exact: bool = True
    cost: Cost | None = None
    layout: tuple[CheckedModule, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    warnings: tuple[str, ...] = ()


class Materialized(Result):
    """The computed bytes of a version.

    ``digest`` identifies the output: an adapter's content digest, or for a model the digest over its files.
    ``path`` is the folder it was written to (None when it stays in the blob store). ``cached`` says that
    nothing had to be computed; ``differs`` lists other digests recorded for the same recipe and target.
    """

    ref: str
    target: Target
    digest: str
    recipe_digest: str
    path: str | None
    files: dict[str, int]
    size: int
    device: str
    dtype: str
    seconds: float
    cached: bool
    report: tuple[ModuleReport, ...] = ()
    differs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class MaterializePlan(Result):
    """What materializing a version would do. Nothing is written.

    For a model, ``files`` are its weight files with their sizes, of whose ``tensors`` a number is ``patched``
    (``patched_bytes`` of them) and the rest copied. ``identify`` are bytes of the base that are read first, only to
    know which weights they are: none where they are known and unchanged. ``read`` and ``written`` come after that.
    ``operations`` are floating-point operations, roughly, and ``bound`` says what is expected to take longest.
    """

    ref: str
    target: Target
    recipe_digest: str
    base_model: BaseModelIdentity
    base_path: str | None
    dtype: str
    device: str
    files: dict[str, int]
    tensors: int
    patched: int
    patched_bytes: int
    identify: int
    read: int
    written: int
    operations: int
    bound: Literal["bytes", "arithmetic"]
    warnings: tuple[str, ...] = ()


class Checkout(Result):
    """A PEFT folder written for a version; ``files`` maps names to sizes.

    With a ``format`` it is what another program loads: all modules have ``rank``, each kept at least ``energy`` of its
    ``‖ΔW‖²`` (1 where nothing was cut), and ``notes`` say how to load it.
    """

    ref: str
    digest: str
    path: str
    files: dict[str, int]
    format: str | None = None
    rank: int | None = None
    energy: float | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class LineageNode(Result):
    """A version in a lineage graph; ``depth`` is its distance from the version asked about.

    ``revoked`` says that it was itself, ``affected`` that something it was derived from was, ``held`` whether its bytes
    are cataloged here, or it is only known.
    """

    ref: str
    digest: str
    kind: str
    depth: int
    task: str | None = None
    expression: str | None = None
    aliases: tuple[str, ...] = ()
    deleted: bool = False
    revoked: bool = False
    affected: bool = False
    held: bool = True


class LineageEdge(Result):
    """``child`` was derived from ``parent``."""

    child: str
    parent: str
    coefficient: str | None
    relation: Literal["input", "declared"]


class Lineage(Result):
    """The versions upstream (``up``) or downstream (``down``) of ``ref``, the version itself included."""

    ref: str
    direction: Literal["up", "down"]
    nodes: tuple[LineageNode, ...]
    edges: tuple[LineageEdge, ...]


class Plotted(Result):
    """A picture that was written: of ``what``, and about ``subject``. ``notes`` say what is not to be seen in it."""

    path: str
    what: str
    subject: str
    format: Literal["png", "svg", "html"]
    size: int
    notes: tuple[str, ...] = ()


class MovedReference(Result):
    """A reference of an expression, the version it meant when it was pinned, and the one it means now.

    ``current`` is None where it means nothing any more: the alias was deleted, or all versions were.
    """

    reference: str
    pinned: str
    current: str | None

    def __str__(self) -> str:
        return f"{self.reference} was {self.pinned}, is {self.current or 'gone'}"


class Staleness(Result):
    """A composition that would pin differently today, and which references make it so.

    ``broken`` says that one of them means nothing any more, so that the expression cannot be composed again as it is.
    ``followers`` are compositions further down that would follow once it is rebuilt; they are not stale now.
    """

    ref: str
    expression: str
    references: tuple[MovedReference, ...]
    broken: bool = False
    followers: tuple[str, ...] = ()


class Rebuilt(Result):
    """What became of a composition when everything it follows was looked at again.

    ``state``: ``made`` (``made`` is its new version), ``planned`` (dry run: it would be), ``unchanged`` (it would come
    out as it is), ``failed`` (``reason`` says why), or ``blocked`` (one that it follows failed). ``references`` are
    those that moved. ``cached`` says that the new version's content was known and nothing had to be computed.
    """

    ref: str
    state: Literal["made", "planned", "unchanged", "failed", "blocked"]
    made: str | None = None
    expression: str
    references: tuple[MovedReference, ...] = ()
    cached: bool = False
    reason: str | None = None
    warnings: tuple[str, ...] = ()


class Revocation(Result):
    """A version that was revoked, or (``undone``) is no longer.

    ``affected`` are the versions derived from it, at any depth. ``copies`` are live versions with the same content,
    which are not revoked by this. ``changed`` is False when it was revoked before, for the same reason.
    """

    ref: str
    digest: str
    reason: str
    revoked_at: datetime
    revoked_by: str
    affected: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    changed: bool = True
    undone: bool = False


class Impact(Result):
    """What a version reached: everything derived from it, the aliases there, and the Hub repos.

    ``publications`` are those that arrived or may have (``done``, ``pending``), of the version itself and of all in
    ``derived``. ``reason`` is set where it was revoked.
    """

    ref: str
    reason: str | None
    derived: Lineage
    aliases: tuple[str, ...]
    publications: tuple[Publication, ...]


class FieldChange(Result):
    """One field that two versions differ in."""

    field: str
    before: Any
    after: Any


class ModuleChange(Result):
    """How one module's delta differs: both norms, their cosine, and ``‖after − before‖ / ‖before‖``.

    Frobenius norms of ΔW for LoRA, Euclidean norms of ℓ − 1 for (IA)³. ``cosine`` and ``relative`` are None
    where a norm is zero.
    """

    module: str
    before: float
    after: float
    cosine: float | None
    relative: float | None


class Difference(Result):
    """Two versions side by side: metadata, inputs with coefficients, and the change per module.

    ``modules`` is empty, with the reason in ``not_compared``, where the deltas have no common space.
    """

    before: str
    after: str
    fields: tuple[FieldChange, ...]
    inputs: tuple[FieldChange, ...]
    modules: tuple[ModuleChange, ...]
    not_compared: str | None = None


class Alias(Result):
    """A movable pointer to a version. A ``protected`` one moves only for those who say where it points."""

    name: str
    alias: str
    ref: str
    moved: bool = True
    previous: int | None = None
    protected: bool = False
    updated_at: datetime
    updated_by: str


class Tagged(Result):
    """The tags of a version after a change."""

    ref: str
    tags: dict[str, str]


class LeftOut(Result):
    """A version that was not compared, and why."""

    ref: str
    reason: str


class SimilarVersion(Result):
    """A version beside another one: the cosine of their ΔW over all modules, those that one lacks counting as zero.

    ``exact``: computed from the factors; otherwise estimated from sketches, with the standard error ``error``.
    ``relation`` and ``factor`` (``ΔW = factor · ΔW`` of the other) are said of exact cosines of 1 and −1 only, up to
    rounding. ``lineage`` says that it is an ancestor of the other, or derived from it, at any depth. ``partial`` is what
    of the version is not in the comparison, since it says something only together with the base model.
    """

    ref: str
    digest: str
    kind: str
    task: str | None
    cosine: float
    exact: bool
    error: float
    norm: float
    relation: Literal["same content", "same delta", "negated", "scaled"] | None = None
    factor: float | None = None
    lineage: Literal["ancestor", "derived"] | None = None
    partial: str | None = None


class Similar(Result):
    """The versions most like one version, best first, among ``compared`` on its base model.

    ``norm`` is the length of its ΔW. ``sketched`` contents had no sketch yet; ``warnings`` say where these could not be kept.
    """

    ref: str
    base_model: BaseModelIdentity
    norm: float
    compared: int
    versions: tuple[SimilarVersion, ...]
    left_out: tuple[LeftOut, ...] = ()
    sketched: int = 0
    partial: str | None = None
    warnings: tuple[str, ...] = ()


class DuplicateGroup(Result):
    """Versions with a cosine of at least what was asked for with the oldest of them, ``ref``."""

    ref: str
    base_model: BaseModelIdentity
    versions: tuple[SimilarVersion, ...]


class Duplicates(Result):
    """What is in a catalog more than once, among ``compared`` versions."""

    compared: int
    groups: tuple[DuplicateGroup, ...]
    left_out: tuple[LeftOut, ...] = ()
    sketched: int = 0
    warnings: tuple[str, ...] = ()


class Sketched(Result):
    """Sketches that were made and kept, out of ``total`` contents of live versions, and what has none."""

    made: int
    total: int
    left_out: tuple[LeftOut, ...] = ()


class Deleted(Result):
    """The tombstone of a version; ``downstream`` are the live versions derived from it."""

    ref: str
    digest: str
    downstream: tuple[str, ...] = ()


class Garbage(Result):
    """What ``gc`` removed, or would remove without ``--apply``; ``size`` is that of blobs and quarantined files, in bytes."""

    applied: bool
    blobs: tuple[str, ...]
    leftovers: tuple[str, ...]
    size: int


class Verification(Result):
    """The outcome of checking one version.

    ``problems`` is empty when everything holds. ``rebuilt`` is the digest a rebuild gave, where one was asked
    for; where it differs, ``error`` is the largest relative change of a module's delta, which has to stay within
    a tolerance on another device or with other library versions. ``mended`` says that damaged bytes were
    replaced by the rebuilt ones.

    Of a repo on the Hub, ``ref`` is ``hf://REPO@COMMIT``, ``digest`` the content that its provenance tells of, ``known``
    this catalog's version with that content, ``published`` whether this catalog published this very commit, ``signed`` whether
    a signature was verified with a key that was given (None without one), and ``notes`` what was seen without being wrong.

    After a repair, ``quarantined`` are the digests of the damaged files that were put aside, and ``healed`` says by digest
    where a good copy came from.
    """

    ref: str
    digest: str
    ok: bool
    problems: tuple[str, ...] = ()
    rebuilt: str | None = None
    error: float | None = None
    mended: bool = False
    known: str | None = None
    published: bool | None = None
    signed: bool | None = None
    notes: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    healed: dict[str, str] = {}


class Damage(Result):
    """Something in the database that is not as it was written, and the ``versions`` that it affects.

    ``table`` and ``row`` say where, as far as it is in a row. What is ``derived`` from other rows is computed again by a
    repair; ``repaired`` says that it was.
    """

    table: str
    row: str
    problem: str
    versions: tuple[str, ...] = ()
    derived: bool = False
    repaired: bool = False


class DatabaseCheck(Result):
    """The outcome of checking what the database holds: ``damage`` is empty when all is as it was written.

    Of very many, ``more`` were left out. ``problems`` says them in a line each. ``quarantined`` are the files that were
    put aside, by any repair, and are kept until ``gc`` is told to remove them.
    """

    ref: Literal["database"] = "database"
    ok: bool
    problems: tuple[str, ...] = ()
    damage: tuple[Damage, ...] = ()
    more: int = 0
    quarantined: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Watched(Result):
    """An imported adapter beside the repo that it came from.

    ``state``: ``same``, ``moved`` (the repo has other adapter files now), ``same files`` (newer commits, which left them as
    they were), ``gone``, or ``unknown`` (the Hub could not be asked, for the ``reason``). ``commit`` is where the branch or
    tag ``revision`` stands now, ``imported`` where it stood.
    """

    ref: str
    repo: str
    revision: str
    imported: str
    commit: str | None
    state: Literal["same", "moved", "same files", "gone", "unknown"]
    reason: str | None = None


class Fetched(Result):
    """A version whose bytes were known but not held, and are now; ``changed`` is False where they were here already."""

    ref: str
    digest: str
    source: str
    size: int
    changed: bool = True


class FoundAdapter(Result):
    """A folder that :meth:`registry.Registry.add_all` found.

    ``outcome`` is ``added``, ``present`` (its content was there already), or ``refused``, for the reason in ``error``.
    ``named`` is False where the name is not the path itself, because a name may not hold it or another one had it.
    """

    path: str
    name: str
    named: bool
    outcome: Literal["added", "present", "refused"]
    ref: str | None = None
    digest: str | None = None
    error: str | None = None
    hint: str | None = None
    code: str | None = None
    warnings: tuple[str, ...] = ()


class AddedAll(Result):
    """What became of every adapter below a folder, by path."""

    root: str
    added: int
    present: int
    refused: int
    found: tuple[FoundAdapter, ...]


class SyncedAdapter(Result):
    """One adapter of a folder that is kept in step with an alias.

    ``outcome`` is ``added``, ``updated``, ``unchanged``, ``removed`` (the alias left it), ``left out`` (it cannot be
    served, for the ``reason``), or ``failed`` (its folder stays as it was). ``folder`` is what a server calls it.
    """

    folder: str
    name: str | None
    ref: str | None
    outcome: Literal["added", "updated", "unchanged", "removed", "left out", "failed"]
    reason: str | None = None
    code: str | None = None


class SyncedFolder(Result):
    """A folder of adapters for a server. ``applied`` is False where it was only looked at, ``changed`` that it differs."""

    path: str
    alias: str
    applied: bool
    changed: bool
    adapters: tuple[SyncedAdapter, ...]


class Exported(Result):
    """A bundle that was written: how many things of each sort are in it, and whether their bytes are."""

    path: str
    size: int
    digest: str
    blobs: bool
    counts: dict[str, int]


class Imported(Result):
    """What a bundle brought.

    ``complete`` says that the catalog was empty and is now the one that was exported. ``added`` counts what is new by
    sort, ``extended`` the adapters that have new versions, ``stored`` the blobs whose bytes were taken over.
    ``missing`` counts blobs of the bundle whose bytes are not in the blob store, ``kept`` names aliases that point
    elsewhere here and stay (``name@alias``, or a base model's ``alias``). ``changed`` is False when everything was there already.
    """

    path: str
    digest: str
    complete: bool
    changed: bool
    added: dict[str, int]
    extended: int
    stored: int
    missing: int
    kept: tuple[str, ...] = ()


class Backup(Result):
    """A backup that was written, or read and found whole: when it was taken, and how many rows it has by table.

    ``digest`` is of all that it holds: equal for equal catalogs, whatever database they are in. ``size`` is in bytes.
    """

    path: str
    size: int
    digest: str
    schema_revision: str
    taken: datetime
    blobs: bool
    counts: dict[str, int]


class Restored(Result):
    """What a backup became: rows by table, ``stored`` blobs, and how many the backup did not have (``missing``).

    Where ``schema_revision`` is older than ``head``, the catalog is to be upgraded.
    """

    path: str
    digest: str
    schema_revision: str
    head: str
    taken: datetime
    counts: dict[str, int]
    stored: int
    missing: int


class Schema(Result):
    """The database's schema revision beside the one this release needs.

    ``problems`` names what ``db check`` found to be different from what that revision makes.
    """

    url: str
    current: str | None
    head: str
    ok: bool
    problems: tuple[str, ...] = ()


class Roles(Result):
    """The roles of a catalog on PostgreSQL: the statements that make them, and what differs from that.

    ``differences`` is a line for each right that is missing or too much, as they were found, or as they are after
    the statements were ``applied``.
    """

    prefix: str
    roles: tuple[str, ...]
    sql: tuple[str, ...]
    differences: tuple[str, ...]
    applied: bool


class Page(Result):
    """A page of versions; ``next`` continues the listing where this page ends (None at the end)."""

    versions: tuple[Version, ...]
    next: str | None = None


class MethodParameter(Result):
    """A parameter of a merge method. ``default`` is written as in an expression, None where there is none."""

    name: str
    type: str
    choices: tuple[str, ...] = ()
    default: str | None
    required: bool
    description: str


class MethodInfo(Result):
    """A merge method, or an operator of expressions. Sentences are Markdown.

    ``cost`` is that of one module of size (m, n) whose inputs' ranks sum to k. ``in_peft``, ``in_mergekit`` and
    ``in_adapters`` say what computes the same there, and with which parameters of ours; None where nothing does.
    """

    name: str
    summary: str
    formula: str
    definition: str
    source: str
    domain: str
    kinds: tuple[str, ...]
    inputs: str
    parameters: tuple[MethodParameter, ...] = ()
    cost: str
    example: str
    in_peft: str | None = None
    in_mergekit: str | None = None
    in_adapters: str | None = None
