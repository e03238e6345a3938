"""``registry card``."""

from typing import TYPE_CHECKING

import click

from . import _options as options
from ._render import echo, emit, mode, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from registry.results import Card, Target


@click.command("card")
@click.argument("ref")
@click.option("--repo", metavar="OWNER/NAME", help="Where it is to be published, as the card says it.")
@options.into
@click.option("--public", is_flag=True, help="Judge the licenses as for a public repo.")
@options.presented
@options.common
def command(
    *,
    ref: str,
    repo: str | None,
    into: "Target",
    public: bool,
    license: str | None,  # noqa: A002  (the option's own word)
    despite_license: str | None,
    card_template: str | None,
) -> None:
    """Print the model card that publishing would write.

    Nothing is sent. What would keep it from being published for its license is a warning here.

    For example:

      registry card detox@prod --repo team/detox --card-template card.md
    """
    with options.open_registry() as catalog:
        result = catalog.card(
            ref, repo, into=into, private=not public, license=license, despite_license=despite_license,
            card_template=card_template,
        )  # fmt: skip
    warn(result.warnings)
    if mode() == "human":
        echo(result.text.rstrip("\n"))
    else:
        emit(result, _shown, quiet=lambda card: [card.ref])


def _shown(result: "Card", _: "Console") -> "Iterator[RenderableType]":
    yield result.text
