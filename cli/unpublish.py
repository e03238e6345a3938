"""``registry unpublish``."""

import sys

import click

from registry.errors import UsageError

from ._options import common, open_registry
from ._render import emit
from ._views import unpublished


@click.command("unpublish")
@click.argument("what", metavar="REPO|REF")
@click.option("--revision", metavar="BRANCH", help="Branch to take it off, by default the repo's main one.")
@click.option(
    "--delete", is_flag=True, help="Delete the whole repo, with its history and other people's files."
)
@click.option("--reason", metavar="TEXT", help="Why; it is shown on the card that stays, and recorded.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@common
def command(*, what: str, revision: str | None, delete: bool, reason: str | None, yes: bool) -> None:
    """Take what was published off a Hub repo again.

    It is one commit: our files go, as far as nobody changed them, and the card says that they were withdrawn. The repo's history still has them; --delete removes it all.

    For example:

      registry unpublish team/detox --reason "trained on leaked data"
    """
    if delete and not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{what} would be deleted with its whole history", hint="pass --yes to do that")
        click.confirm(f"Delete {what!r} from the Hub, with its whole history?", abort=True, err=True)
    with open_registry() as catalog:
        result = catalog.unpublish(what, revision=revision, delete=delete, reason=reason)
    emit(result, unpublished, quiet=lambda done: done.refs)
