"""``registry sync``."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry.errors import Refused, RegistryError, Stale, StorageFailure

from ._options import base_path, common, open_registry
from ._parts import line
from ._render import console, emit, mode, say
from ._text import clean, few, plural, tint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from rich.text import Text

    from registry.results import Synced, SyncReport

_STYLES = {
    "published": "green",
    "proposed": "green",
    "tagged": "green",
    "unchanged": "dim",
    "planned": "cyan",
    "drifted": "bold red",
    "withheld": "yellow",
    "blocked": "yellow",
    "failed": "bold red",
}
_DONE = {"published", "proposed", "tagged", "planned"}


@click.command("sync")
@click.argument("rules", metavar="[RULE_ID]...", type=click.IntRange(min=1), nargs=-1)
@click.option("--dry-run", is_flag=True, help="Say what would be published, and publish nothing.")
@click.option("--check", is_flag=True, help="As --dry-run, and exit with 6 if anything would change.")
@click.option("--repair", is_flag=True, help="Push again what the Hub no longer holds as published.")
@click.option(
    "--jobs", type=click.IntRange(1, 32), default=4, show_default=True, metavar="N", help="Repos at once."
)
@click.option(
    "--retries", type=click.IntRange(0, 20), default=3, show_default=True, metavar="N",
    help="How often something is tried again that fails for a time.",
)  # fmt: skip
@click.option(
    "--backoff", type=click.FloatRange(0, 60), default=2.0, show_default=True, metavar="SECONDS",
    help="Wait before the first of these; it doubles each time.",
)  # fmt: skip
@base_path
@click.option(
    "--report",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the report as JSON to this file, too.",
)
@common
def command(
    *,
    rules: tuple[int, ...],
    dry_run: bool,
    check: bool,
    repair: bool,
    jobs: int,
    retries: int,
    backoff: float,
    base_path: str | None,
    report: str | None,
) -> None:
    """Publish what the rules ask for and is not there yet.

    What is there already is left alone, so that this can be run again at any time, also after a failure in the middle. Exit codes: 1 when something failed, 6 when the Hub no longer holds what was published (and with --check when anything would change), 7 when something is blocked.

    For example:

      registry sync --check
    """
    if report is not None:
        _require_folder(Path(report))
    told: list[Synced] = []
    try:
        with open_registry() as catalog, _ended_like_by_hand():
            result = catalog.sync(
                rules, dry_run=dry_run or check, repair=repair, jobs=jobs, retries=retries, backoff=backoff,
                base_path=base_path, on_outcome=_teller(told),
            )  # fmt: skip
    except BaseException:  # a report of what was done until then, and not that of the last time
        _hand_over(_cut_short(told, applied=not (dry_run or check)), report)
        raise
    _hand_over(result, report)
    if mode() == "human":
        rules_told = f"{plural(result.rules, 'rule')}: {_counts(result)}"
        say(rules_told if result.rules else f"there are no rules in {result.catalog}: registry rule add")
    _exit(result, check=check)


def _hand_over(result: SyncReport, report: str | None) -> None:
    if report is not None:
        _write(Path(report), result)
    if mode() != "human":
        emit(result, lambda *_: (), quiet=_quiet)


def _cut_short(told: list[Synced], *, applied: bool) -> SyncReport:
    """What is known of a sync that did not come to its end."""
    from registry.results import SyncReport

    return SyncReport(
        applied=applied,
        pending=True,
        rules=len({rule for each in told for rule in each.rules}),
        counts=dict(sorted(Counter(each.outcome for each in told).items())),
        results=tuple(told),
    )


def _exit(result: SyncReport, *, check: bool) -> None:
    """Raise for what somebody has to look at, the worst first."""
    by = {name: [each for each in result.results if each.outcome == name] for name in _STYLES}
    if failed := by["failed"]:
        raise RegistryError(
            f"{_which(failed)} could not be published: {failed[0].reason}",
            hint=failed[0].hint or "what failed for a time is tried again by the next sync",
        )
    if drifted := by["drifted"]:
        raise Stale(
            f"{_which(drifted)} no longer as published", hint="to push it again: registry sync --repair"
        )
    if check and (planned := by["planned"]):
        raise Stale(f"{_which(planned)} would be published", hint="registry sync")
    if blocked := by["blocked"]:
        raise Refused(f"{_which(blocked)} blocked: {blocked[0].reason}", hint=blocked[0].hint)


def _which(outcomes: list[Synced]) -> str:
    names = few(list(dict.fromkeys(each.repo or each.ref or f"rule {each.rules[0]}" for each in outcomes)))
    return f"{plural(len(outcomes), 'publication')} ({names})"


def _teller(told: list[Synced]) -> Callable[[Synced], None]:
    """Keeps each outcome as it happens, and prints a line of it; what is there already is only counted."""
    if mode() != "human":
        return told.append
    screen = console()

    def tell(outcome: Synced) -> None:
        told.append(outcome)
        if outcome.outcome != "unchanged" or outcome.reason:
            screen.print(_line(outcome), soft_wrap=True)
            for warning in outcome.warnings:  # from a thread that knows of no command
                click.echo(f"{tint('warning:', 'yellow')} {clean(warning)}", err=True)

    return tell


def _line(outcome: Synced) -> Text:
    branch = f"@{outcome.revision}" if outcome.revision and outcome.revision != "main" else ""
    which = ", ".join(map(str, outcome.rules))
    subject = f"{outcome.ref} → {outcome.repo}{branch}" if outcome.repo else outcome.ref or f"rule {which}"
    told = [outcome.url or outcome.commit or ""] if outcome.outcome in _DONE else []
    if outcome.outcome == "planned" and outcome.private is not None:
        told.append("by pull request" if outcome.proposes else "private" if outcome.private else "public")
    told += [outcome.reason or "", f"({outcome.hint})" if outcome.reason and outcome.hint else ""]
    rest = " ".join(each for each in told if each)
    return line(
        (f"{outcome.outcome:<9}", _STYLES[outcome.outcome]),
        " ",
        (subject, "bold"),
        f"  {rest}" if rest else "",
    )


def _counts(result: SyncReport) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in result.counts.items()) or "nothing to do"


def _quiet(result: SyncReport) -> list[str]:
    return [each.ref for each in result.results if each.ref and each.outcome in _DONE]


@contextmanager
def _ended_like_by_hand() -> Iterator[None]:
    """What ends a job ends it as Ctrl-C does: what is on its way is finished first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _require_folder(file: Path) -> None:
    if not file.absolute().parent.is_dir():
        raise StorageFailure(
            f"cannot write {file}: its folder does not exist", hint="make it, or choose another"
        )


def _write(file: Path, result: SyncReport) -> None:
    """Whole or not at all: a job may read it while the next one writes it."""
    part = file.absolute().with_name(f".{file.name}-{uuid.uuid4().hex}")
    try:
        with part.open("x", encoding="utf-8") as stream:  # readable for whom the user's files are
            stream.write(result.model_dump_json(indent=2) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
