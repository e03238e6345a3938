"""``registry publish``."""

from typing import TYPE_CHECKING

import click

from . import _options as options
from ._render import emit, progress, warn
from ._views import publication

if TYPE_CHECKING:
    from registry.results import Target


@click.command("publish")
@click.argument("ref")
@click.argument("repo")
@options.into
@click.option(
    "--private/--public",
    default=True,
    show_default=True,
    help="Private (default) makes a new repo private and refuses an existing public one.",
)
@click.option("--revision", metavar="BRANCH", help="Branch to push to, by default the repo's main one.")
@click.option("--message", metavar="TEXT", help="Commit message.")
@options.base_path
@click.option("--adopt", is_flag=True, help="Push to a repo that was not made by this registry.")
@click.option("--pr", "propose", is_flag=True, help="Open a pull request instead of pushing.")
@click.option("--tag", metavar="TAG", help="Tag for the commit, such as v2; one that is taken is not moved.")
@options.presented
@click.option(
    "--sign-key",
    type=click.Path(),
    metavar="FILE",
    help="Sign with this EC key (PEM), by default REGISTRY_SIGNING_KEY; its password is REGISTRY_SIGNING_PASSWORD.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be pushed, send nothing.")
@options.common
def command(
    *,
    ref: str,
    repo: str,
    into: "Target",
    revision: str | None,
    message: str | None,
    base_path: str | None,
    private: bool,
    adopt: bool,
    propose: bool,
    tag: str | None,
    license: str | None,  # noqa: A002  (the option's own word)
    despite_license: str | None,
    card_template: str | None,
    sign_key: str | None,
    dry_run: bool,
) -> None:
    """Push a version to the Hub repo REPO, and verify the push.

    It is one commit, with a model card and provenance. Publishing the same content again makes no commit. The token is HF_TOKEN or that of "hf auth login".

    For example:

      registry publish detox@2 team/detox --tag v2
    """
    with options.open_registry() as catalog, progress() as bar:
        result = catalog.publish(
            ref, repo, into=into, private=private, revision=revision, message=message,
            base_path=base_path, adopt=adopt, propose=propose, tag=tag,
            license=license, despite_license=despite_license,
            sign_key=sign_key, card_template=card_template, dry_run=dry_run, progress=bar,
        )  # fmt: skip
    warn(result.warnings)
    emit(result, publication, quiet=lambda pushed: [pushed.ref])
