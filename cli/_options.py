"""What commands share: options, readers of their values, and the open registry."""

from __future__ import annotations

import math
import os
import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, TypeVar

import click

from registry import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry import Registry

F = TypeVar("F", bound="Callable[..., Any] | click.Command")

FORMAT = "registry.format"
_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}
_AGO = re.compile(r"([0-9]{1,6})\s*([smhdw])")
_SPANS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}  # as filters take them
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?", re.IGNORECASE)


@contextmanager
def open_registry() -> Iterator[Registry]:
    """The catalog that the environment points to, for the time of one command."""
    from registry import Registry, settings

    from ._render import warn

    found = settings.load()
    warn(filter(None, [found.exposed, found.bereft]))
    if click.get_current_context().meta.get(FORMAT, "human") != "human":
        # What the Hub client says of its own waiting would stand in what a program reads.
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    with Registry.open() as catalog:
        yield catalog


def _keep_format(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:  # the innermost command that says something wins
        ctx.meta[FORMAT] = value


def common(command: F) -> F:
    """Add what every command takes: ``--format`` and ``--debug``."""
    output = click.option(
        "--format",
        type=click.Choice(["human", "json", "quiet"]),
        callback=_keep_format,
        expose_value=False,
        help="Tables for people (default), JSON, or one reference per line.",
    )
    debug = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks of errors.")
    return output(debug(command))


def version_option(command: F) -> F:
    return click.version_option(
        __version__, message="registry %(version)s", help="Show the version and exit."
    )(command)


def key_value(text: str) -> tuple[str, str]:
    """``KEY=VALUE``; the value may be empty and may hold more equals signs."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise click.BadParameter(f"{text!r} is not KEY=VALUE")
    return key.strip(), value


def size(text: str) -> int:
    """Bytes, from ``5GB``, ``500MB``, ``2GiB`` or a number."""
    match = _SIZE.fullmatch(text.strip())
    amount = Decimal(match[1]) * _UNITS[(match[2] or "").upper()] if match else Decimal(0)
    if not 1 <= amount < 2**63:
        raise click.BadParameter(f"{text!r} is not a size such as 5GB, 500MB or 2GiB")
    return int(amount)


def fraction(text: str) -> str:
    """A decimal above 0 and up to 1, kept as it was written."""
    try:
        fits = 0 < Decimal(text) <= 1
    except InvalidOperation:  # not a number, or one that cannot be compared
        fits = False
    if not fits:
        raise click.BadParameter(f"{text!r} is not a decimal above 0 and up to 1")
    return text


def finite(text: str) -> float:
    """A number that is neither infinite nor NaN."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise click.BadParameter(f"{text!r} is not a finite number")
    return value


def time(text: str) -> datetime:
    """A day or a time in ISO 8601, UTC where it names no zone, or a span before now such as ``7d``."""
    try:
        if span := _AGO.fullmatch(text.strip()):
            return datetime.now(UTC) - timedelta(**{_SPANS[span[2]]: int(span[1])})
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is no time such as 2026-08-01, 2026-08-01T12:30+02:00 or 7d (ago)"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def as_mapping(
    ctx: click.Context, param: click.Parameter, pairs: tuple[tuple[str, str], ...]
) -> dict[str, str]:
    """Pairs as a mapping; a key that is given twice is a mistake."""
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise click.BadParameter(f"{twice} is given twice", ctx, param)
    return mapping


tags = click.option(
    "--tag",
    "tags",
    type=key_value,
    metavar="K=V",
    multiple=True,
    callback=as_mapping,
    help="Tag, repeatable.",
)
task = click.option("--task", metavar="TASK", help="What it was trained for, in your own word.")
note = click.option("--note", metavar="TEXT", help="Free text kept with the version.")
device = click.option("--device", metavar="auto|cpu|cuda[:N]", default="auto", help="Where to compute.")
devices = click.option(
    "--device",
    metavar="auto|cpu|cuda[:N][,…]",
    default="auto",
    help="Where to compute; several GPUs share a model's tensors.",
)
rank = click.option(
    "--rank", type=click.IntRange(min=1), metavar="N", help="Truncate to this rank, optimally."
)
energy = click.option(
    "--energy",
    type=fraction,
    metavar="F",
    help="Truncate to the smallest rank that keeps this much (0 to 1).",
)
base_path = click.option(
    "--base-path",
    type=click.Path(),
    metavar="DIR",
    help="Folder with the base model; by default it comes from the Hub.",
)
base_values = click.option(
    "--base-path",
    type=click.Path(),
    metavar="DIR",
    help="Folder with the base model, for inputs that hold parameters whole or use DoRA.",
)
into = click.option(
    "--as",
    "into",
    type=click.Choice(["adapter", "model"]),
    default="adapter",
    show_default=True,
    help="As an adapter, or merged into its base model.",
)


_license = click.option("--license", metavar="ID", help="License, by default what follows from the inputs'.")
_despite = click.option(
    "--despite-license",
    metavar="REASON",
    help="Publish although the license of an input is against it; the card says so.",
)
_template = click.option(
    "--card-template",
    type=click.Path(),
    metavar="FILE",
    help="Template of the card, by default REGISTRY_CARD_TEMPLATE, or else the built-in one.",
)


def presented(command: F) -> F:
    """What decides how a release is presented."""
    return _license(_despite(_template(command)))


_run = click.option(
    "--run", required=True, metavar="COMMAND", help="What measures: {path} is the adapter's folder."
)
_timeout = click.option("--timeout", type=finite, metavar="SECONDS", help="Time limit of one evaluation.")
_retries = click.option(
    "--retries",
    type=click.IntRange(0, 100),
    default=0,
    show_default=True,
    metavar="N",
    help="Tries after a failure.",
)
_dataset = click.option(
    "--dataset", default="local", show_default=True, metavar="NAME", help="What it is measured on."
)
_split = click.option("--split", metavar="NAME", help="Which part of the dataset.")


def running(command: F) -> F:
    """How an evaluation is run."""
    return _run(_timeout(_retries(command)))


def measured_on(command: F) -> F:
    """What evaluations are recorded for."""
    return _dataset(_split(command))


def dtype(help_text: str) -> Callable[[F], F]:
    """``--dtype``, with what it means for this command."""
    names = ["float64", "float32", "bfloat16", "float16"]
    return click.option("--dtype", type=click.Choice(names), help=help_text)


def refuse_both(rank: int | None, energy: str | None) -> None:
    if rank is not None and energy is not None:
        raise click.UsageError("--rank and --energy exclude each other")
