"""What rules ask for: which version goes where, and what cannot, with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy.orm import Session

from registry.catalog import rules as catalog
from registry.errors import NotHeld, Refused, RegistryError
from registry.publishers import hub as publisher
from registry.publishers.hub import Place
from registry.results import Rule, Synced, Target, Version
from registry.verbs import _templates
from registry.verbs.rules import selected_by, selected_name

_FEW = 3
"""How many that want one place are named beside each other: each of them names the others."""


@dataclass(frozen=True)
class Task:
    """A version that is to be at a place; ``rules`` are those that ask for it, ``parents`` what it was made from."""

    ref: str
    where: Place
    target: Target
    private: bool
    adopt: bool
    propose: bool
    tag: str | None
    license: str | None
    rules: tuple[int, ...] = field(compare=False)
    made: datetime = field(compare=False)
    parents: frozenset[str] = field(compare=False)

    @property
    def key(self) -> tuple[str, str]:
        """What the Hub takes for one place: it tells repos apart regardless of case."""
        return self.where.repo.lower(), self.where.revision

    def outcome(self, **told: object) -> Synced:
        """What became of it."""
        fields = {
            "rules": self.rules,
            "ref": self.ref,
            "repo": self.where.repo,
            "revision": self.where.revision,
            "private": self.private,
            "proposes": self.propose,
        }
        return Synced.model_validate({**fields, "target": self.target, "tag": self.tag, **told})


@dataclass(frozen=True)
class Wanted:
    """One task for each place, and the outcome of what cannot be a task, or asks for nothing."""

    tasks: list[Task]
    settled: list[Synced]


def wanted(session: Session, rules: Sequence[Rule]) -> Wanted:
    """What these rules ask for now."""
    tasks: list[Task] = []
    settled: list[Synced] = []
    for rule, version, error in _selected(session, rules):
        if version is None:
            settled.append(_nothing(rule, error))
            continue
        try:
            task = _task(rule, version)
        except RegistryError as refusal:
            settled.append(_blocked(rule, version, refusal))
            continue
        reason = _refusal(version)
        if reason is None:
            tasks.append(task)
        else:
            settled.append(task.outcome(outcome="blocked", **reason))
    return _one_for_each_place(tasks, settled)


def of_rules(asked: Wanted, rules: Sequence[Rule]) -> Wanted:
    """What of it these rules ask for."""
    numbers = {rule.id for rule in rules}
    return Wanted(
        [task for task in asked.tasks if numbers.intersection(task.rules)],
        [each for each in asked.settled if numbers.intersection(each.rules)],
    )


def explained(error: RegistryError) -> dict[str, object]:
    """An error as an outcome tells it."""
    return {"reason": error.message, "hint": error.hint, "code": error.code}


def _selected(
    session: Session, rules: Sequence[Rule]
) -> Iterator[tuple[Rule, Version | None, RegistryError | None]]:
    """Each rule with each version that it selects; with None, and perhaps an error, where there is none."""
    names = {rule.id: name for rule in rules if (name := selected_name(rule.selector)) is not None}
    named = catalog.named(session, {(names[rule.id], rule.alias) for rule in rules if rule.id in names})
    for rule in rules:
        if rule.id in names:
            yield rule, named.get((names[rule.id], rule.alias)), None
            continue
        found, error = False, None
        try:
            for version in catalog.fitting(session, selected_by(rule.selector), rule.alias):
                if rule.alias is None and not version.held:
                    continue  # somebody else's, known from an import; nobody here chose it
                found = True
                yield rule, version, None
        except RegistryError as refusal:  # what a filter names may be gone
            error = refusal
        if error is not None or not found:
            yield rule, None, error


def _task(rule: Rule, version: Version) -> Task:
    values = _templates.fields(version, rule.alias)
    repo = _templates.fill(rule.repo, values, version.ref)
    branch = rule.revision and _templates.fill(rule.revision, values, version.ref)
    tag = rule.tag and _templates.fill(rule.tag, values, version.ref)
    if tag is not None:
        publisher.check_tag(tag)
    return Task(
        ref=version.ref,
        where=publisher.place(repo, branch),
        target=rule.target,
        private=rule.private,
        adopt=rule.adopt,
        propose=rule.propose,
        tag=tag,
        license=rule.license,
        rules=(rule.id,),
        made=version.created_at,
        parents=frozenset(parent.ref for parent in version.parents),
    )


def _refusal(version: Version) -> dict[str, object] | None:
    """Why a version is not published, as far as it can be told without asking anybody."""
    if version.revoked is not None:
        why = f"{version.ref} was revoked by {version.revoked.by}: {version.revoked.reason}"
    elif version.affected_by:
        why = f"{version.ref} was made from {', '.join(version.affected_by)}, which was revoked"
    elif not version.held and version.origin is not None:
        why, hint = f"{version.ref} is only known from elsewhere", f"get it: registry fetch {version.ref}"
        return {"reason": why, "hint": hint, "code": NotHeld.code}
    else:
        return None
    hint = f"let the rule mean another version; what it reached: registry impact {version.ref}"
    return {"reason": why, "hint": hint, "code": Refused.code}


def _one_for_each_place(tasks: Sequence[Task], settled: list[Synced]) -> Wanted:
    places: dict[tuple[str, str], list[Task]] = {}
    for task in tasks:
        there = places.setdefault(task.key, [])
        same = next((i for i, other in enumerate(there) if _alike(other, task)), None)
        if same is None:
            there.append(task)
        else:
            there[same] = replace(there[same], rules=tuple(sorted({*there[same].rules, *task.rules})))
    single = [there[0] for there in places.values() if len(there) == 1]
    for there in places.values():
        if len(there) > 1:
            settled += [task.outcome(outcome="blocked", **_contested(task, there)) for task in there]
    return Wanted(sorted(single, key=lambda task: task.key), settled)


def _alike(one: Task, other: Task) -> bool:
    return replace(one, where=other.where) == other


def _contested(task: Task, there: Sequence[Task]) -> dict[str, object]:
    others = [other for other in there if other is not task]
    rules = sorted({number for other in others for number in other.rules})
    refs = sorted({other.ref for other in others})
    more = [f"and {len(refs) - _FEW:,} more"] if len(refs) > _FEW else []
    asked = "otherwise" if refs == [task.ref] else f"for {', '.join([*refs[:_FEW], *more])}"
    shown = f"rule{'s' * (len(rules) > 1)} {', '.join(map(str, rules))}"
    return {
        "reason": f"{shown} ask{'s' * (len(rules) == 1)} for this place {asked}",
        "hint": "let one rule lead elsewhere, with {name} or --revision, or delete it",
        "code": "CONFLICT",
    }


def _nothing(rule: Rule, error: RegistryError | None) -> Synced:
    told: dict[str, object] = {"rules": (rule.id,), "ref": None, "repo": None, "revision": None}
    told["target"] = rule.target
    if error is not None:
        return Synced.model_validate({**told, "outcome": "blocked", **explained(error)})
    what = f"has no version {rule.alias}" if rule.alias else "has no version"
    reason = f"nothing that fits {rule.selector} {what}" if not _names(rule) else f"{rule.selector} {what}"
    return Synced.model_validate({**told, "outcome": "unchanged", "reason": f"{reason} now"})


def _names(rule: Rule) -> bool:
    return selected_name(rule.selector) is not None


def _blocked(rule: Rule, version: Version, error: RegistryError) -> Synced:
    return Synced.model_validate(
        {
            "rules": (rule.id,),
            "ref": version.ref,
            "repo": None,
            "revision": None,
            "target": rule.target,
            "outcome": "blocked",
            **explained(error),
        }
    )
