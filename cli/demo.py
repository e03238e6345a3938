"""``registry demo``."""

from __future__ import annotations

from pathlib import Path

import click

from . import _options as options


@click.command("demo")
@click.option("--to", "repo", metavar="OWNER/REPO", help="Publish to this Hub repo, not to a local Hub.")
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="Keep the demo's registry in this new folder, to look around in afterwards.",
)
@options.common
def command(*, repo: str | None, home: Path | None) -> None:
    """Run the main job end to end on trained adapters.

    Adds, composes, materializes, measures, traces back, verifies and publishes, printing each command that it
    runs. Nothing is downloaded, and your own registry is not touched. Needs the extra:
    pip install 'adapter-registry[demo]'.

    For example:

      registry demo

      registry demo --home demo --to your-name/reviews
    """
    from registry.demo import tour

    tour.run(_registry, click.echo, home=home, repo=repo)


def _registry(words: list[str]) -> int:
    """Run this very program in this process; returns its exit code."""
    from . import root

    try:
        root.main(words, prog_name="registry")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0
