"""``registry rule``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import _options as options
from ._parts import Cell, line, table
from ._render import emit, emit_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, RenderableType

    from registry.results import Rule, Target

    from ._parts import Screen


@click.group("rule")
@options.common
def command() -> None:
    """Say what "registry sync" publishes where."""


@command.command("add")
@click.argument("selector")
@click.option(
    "--to", "repo", required=True, metavar="REPO", help="Template of the repo, such as 'team/{name}'."
)
@click.option("--alias", metavar="ALIAS", help="Publish what has this alias, by default the latest version.")
@options.into
@click.option(
    "--private/--public",
    default=True,
    show_default=True,
    help="Private (default) makes new repos private and refuses existing public ones.",
)
@click.option("--revision", metavar="BRANCH", help="Template of the branch, by default the repo's main one.")
@click.option("--pr", "propose", is_flag=True, help="Open pull requests instead of pushing to the branch.")
@click.option("--adopt", is_flag=True, help="Push to repos that this registry did not make, too.")
@click.option("--tag", metavar="TAG", help="Template of a tag for each commit, such as 'v{version}'.")
@click.option("--license", metavar="ID", help="License to publish under, such as apache-2.0.")
@options.common
def add(
    *,
    selector: str,
    repo: str,
    alias: str | None,
    into: Target,
    private: bool,
    revision: str | None,
    propose: bool,
    adopt: bool,
    tag: str | None,
    license: str | None,  # noqa: A002  (the option's name)
) -> None:
    """Add a rule: SELECTOR goes to REPO.

    SELECTOR is an adapter's name, or a filter that a version has to fit. Templates may name {name}, {fullname} (with the team), {version}, {alias}, {task}, {kind} and {base}. The same rule again changes nothing.

    For example:

      registry rule add "task = 'qa'" --alias prod --to 'team/{name}' --tag 'v{version}'
    """
    with options.open_registry() as catalog:
        result = catalog.add_rule(
            selector, repo, alias=alias, into=into, private=private, revision=revision,
            propose=propose, adopt=adopt, tag=tag, license=license,
        )  # fmt: skip
    emit(result, _added, quiet=_quiet)


@command.command("list")
@options.common
def list_() -> None:
    """List all rules.

    For example:

      registry rule list
    """
    with options.open_registry() as catalog:
        results = catalog.rules()
    emit_all(results, _rules, quiet=lambda rule: str(rule.id), empty="there are no rules")


@command.command("delete")
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@options.common
def delete(number: int) -> None:
    """Remove a rule; what it published stays where it is.

    For example:

      registry rule delete 3
    """
    with options.open_registry() as catalog:
        removed = catalog.delete_rule(number)
    emit(removed, _removed, quiet=_quiet)


def _added(result: Rule, _: Console) -> Iterator[RenderableType]:
    yield line(
        (f"rule {result.id}", "bold"), "" if result.created else " is there already", ": ", _sentence(result)
    )


def _removed(result: Rule, _: Console) -> Iterator[RenderableType]:
    yield line("removed ", (f"rule {result.id}", "bold"), ": ", _sentence(result))


def _sentence(rule: Rule) -> str:
    branch = f", branch {rule.revision}" if rule.revision else ""
    way = ", ".join(_way(rule))
    return f"{rule.alias or 'latest'} of {rule.selector} to {rule.repo}{branch} as {rule.target} ({way})"


def _way(rule: Rule) -> Iterator[str]:
    yield "private" if rule.private else "public"
    if rule.propose:
        yield "by pull request"
    if rule.adopt:
        yield "adopting"
    if rule.tag:
        yield f"tag {rule.tag}"
    if rule.license:
        yield f"license {rule.license}"


def _rules(results: Sequence[Rule], console: Screen) -> RenderableType:
    rows = [
        [
            rule.id,
            Cell(rule.selector, "bold"),
            rule.alias or "latest",
            rule.repo,
            rule.revision,
            rule.target,
            ", ".join(_way(rule)),
            rule.created_by,
        ]
        for rule in results
    ]
    columns = ["id", "selects", "version", "to", "branch", "as", "how", "by"]
    return table(console, columns, rows, spare=["by", "branch", "as"])


def _quiet(result: Rule) -> list[str]:
    return [str(result.id)]
