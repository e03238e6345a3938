"""``registry verify``."""

import click

from registry.errors import IntegrityFailure
from registry.results import Verification

from ._options import base_values, common, open_registry
from ._render import emit_all
from ._tables import verifications
from ._text import plural


@click.command("verify")
@click.argument("refs", metavar="[REF]...", nargs=-1)
@click.option("--rebuild", is_flag=True, help="Compute derived versions again and compare the digests.")
@click.option(
    "--key", type=click.Path(), metavar="PUB.pem", help="Of a Hub repo: the public key of its signature."
)
@base_values
@common
def command(refs: tuple[str, ...], *, rebuild: bool, key: str | None, base_path: str | None) -> None:
    """Check stored bytes and digests, of all versions or some.

    Prints every version, then exits with code 5 when any is not as recorded. hf://owner/repo[@revision] is checked
    against its provenance.json, and beside this catalog, without downloading its weights; --rebuild makes it again.

    For example:

      registry verify detox@2 --rebuild

      registry verify hf://team/detox --key team.pem
    """
    with open_registry() as catalog:
        results = catalog.verify(refs, rebuild=rebuild, base_path=base_path, key=key)
    emit_all(results, verifications, quiet=lambda result: result.ref, empty="there is nothing to verify")
    damaged = [result for result in results if not result.ok]
    if damaged:
        names = ", ".join(result.ref for result in damaged)
        raise IntegrityFailure(
            f"{plural(len(damaged), 'version')} of {len(results)} not as recorded: {names}",
            hint=_hint(damaged),
        )


def _hint(damaged: list[Verification]) -> str:
    there = [each.ref.startswith("hf://") for each in damaged]
    on_the_hub = "do not use what is on the Hub before you asked who published it"
    here = "restore the files from a copy, or rebuild them from their recipes"
    return "; ".join([*([here] if not all(there) else []), *([on_the_hub] if any(there) else [])])
