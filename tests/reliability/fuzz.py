"""Mutated input for everything that reads what others wrote: it is taken, or refused in one line; nothing else.

A case must end within a time, in bounded memory, and write nothing outside its own folder. The same seed gives the same
cases, so that a finding can be had again by its number.
"""

from __future__ import annotations

import json
import random
import resource
import signal
import struct
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry import expression, filters, peft_format, recipe, reference
from registry.digest import canonical_json
from registry.errors import RegistryError
from registry.publishers import _provenance
from tests.adapters import make_ia3, make_lora

SECONDS = 5.0
MEMORY = 2 << 30
"""Bytes of address space that a case may add."""

_TOKENS = [
    b"\x00", b"\xff\xfe", b"\xe2\x80\xae", b"\x1b[31m", b"..", b"/", b"../../etc/passwd", b"@", b"@v3", b"sha256:", b"-", b" - ",
    b" + ", b"*", b"(", b")", b",", b"=", b"1e999", b"NaN", b"Infinity", b"-0", b"0x10", b"99999999999999999999", b"truncate(",
    b"ties(", b"rank=", b"density=", b'"', b"'", b"%", b"_", b" AND ", b" OR ", b"NOT ", b" IN ", b"LIKE", b"[", b"]", b"{", b"}", b"null",
    b"true", b"lora_A", b".weight", b"(a+)+$", b".*", b"\\u0000", b"\\ud800", b"model.layers.0", b"base_model.model.", b"\n", b"\t", b":",
]  # fmt: skip
_ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, -(2**63) - 1, 0.5, -0.0, 1e308, 5e-324, "", "x" * 5000, "..", "../x",
    "/etc/passwd", "\x00", "\x1b[2J", "\u202eevil", "(a+)+$", "^(.*)*$", "re:(", [], [[]], [None], {}, {"": ""}, [0] * 100, ["q_proj"] * 300,
    "all-linear", "cuda", "NaN", "1e999",
]  # fmt: skip


@dataclass(frozen=True)
class Target:
    """What reads: seeds that it takes, and how it is given one. ``structured`` seeds are JSON, changed as such too."""

    seeds: tuple[bytes, ...]
    run: Callable[[bytes, Path], object]
    structured: bool = False


@dataclass(frozen=True)
class Finding:
    """A case that neither was taken nor refused."""

    target: str
    number: int
    error: str
    case: bytes


class _Hung(Exception):
    """A case took too long."""


def _text(case: bytes) -> str:
    return case.decode("utf-8", "replace")


def _tensors(case: bytes, folder: Path) -> object:
    (folder / peft_format.TENSORS).write_bytes(case)
    return peft_format.read(folder).digest


def _config(case: bytes, folder: Path) -> object:
    (folder / peft_format.CONFIG).write_bytes(case)
    return peft_format.read(folder).layout


def _reference(case: bytes, _: Path) -> object:
    reference.check_name(_text(case))
    return reference.parse(_text(case))


def _recipe(case: bytes, _: Path) -> object:
    try:
        return recipe.parse(json.loads(case)).digest
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None  # what its readers take for no recipe


def targets(folder: Path) -> Mapping[str, Target]:
    """Everything that is tried, with seeds made on the spot."""
    lora = make_lora(folder / "lora", modules={"h.0.q": (6, 4)}, r=2)
    ia3 = make_ia3(folder / "ia3", modules={"h.0.k": 6})
    made = recipe.parse(
        recipe.identity("sha256:" + "0" * 64, kind="lora", algorithm=1, dtype="float32").canonical()
    )
    typed = [
        b"alpaca@prod - 0.4*toxic", b"yelp - (yelp-lm - amazon-lm)", b"ties(0.6*qa, 0.4*nli, density=0.2)",
        b"truncate(a + b, rank=16)", b"-x", b"factors(0.5*team/a + 0.5*sha256:" + b"a" * 64 + b")",
    ]  # fmt: skip
    searched = [
        b"alias = 'prod' AND eval.accuracy > 0.8", b"NOT revoked", b"name LIKE 'a%' OR tag.k IN ('x', 'y')",
        b"created_at > 7d AND (task = 'qa' OR kind = lora)", b"free words",
    ]  # fmt: skip
    return {
        "expression": Target(tuple(typed), lambda case, _: expression.parse(_text(case))),
        "filter": Target(tuple(searched), lambda case, _: filters.parse(_text(case))),
        "reference": Target((b"toxic", b"team/alpaca@prod", b"a@3", b"sha256:" + b"0" * 64), _reference),
        "safetensors": Target(
            tuple((each / peft_format.TENSORS).read_bytes() for each in (lora, ia3)), _tensors
        ),
        "adapter_config": Target(
            tuple((each / peft_format.CONFIG).read_bytes() for each in (lora, ia3)), _config, structured=True
        ),
        "recipe": Target((canonical_json(made.canonical()),), _recipe, structured=True),
        "provenance": Target((_statement(),), lambda case, _: _provenance.subjects(case), structured=True),
    }


def _statement() -> bytes:
    return json.dumps(
        {
            "_type": _provenance.STATEMENT,
            "subject": [{"name": "adapter_model.safetensors", "digest": {"sha256": "0" * 64}}],
            "predicateType": _provenance.PREDICATE,
            "predicate": {"buildDefinition": {"buildType": _provenance.BUILD_TYPE}},
        }
    ).encode()


def fuzz(name: str, cases: int, *, seed: int = 0) -> Iterator[Finding]:
    """Try so many cases of a target."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        target = targets(folder)[name]
        place = folder / ("ia3" if name == "nothing" else "lora")
        with _bounded():
            for number in range(cases):
                case = mutated(target, random.Random(f"{name}.{seed}.{number}"))  # noqa: S311
                error = _tried(target, case, place)
                if error is not None:
                    yield Finding(name, number, error, case)


def _tried(target: Target, case: bytes, place: Path) -> str | None:
    before = sorted(path.name for path in place.parent.iterdir())
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        target.run(case, place)
    except RegistryError as error:
        if not error.message.isprintable():
            return f"its message is not one line of text: {error.message!r}"
    except (Exception, MemoryError):  # noqa: BLE001 (each is a finding)
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if sorted(path.name for path in place.parent.iterdir()) != before:
        return "it wrote beside its folder"
    return None


@contextmanager
def _bounded() -> Iterator[None]:
    """An alarm for what hangs, and an end to memory."""

    def hung(*_: object) -> None:
        raise _Hung

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    previous = signal.signal(signal.SIGALRM, hung)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, previous)


def mutated(target: Target, chance: random.Random) -> bytes:
    """A seed, changed in a few places."""
    case = chance.choice(target.seeds)
    if target.structured and chance.random() < 0.7:
        case = _restructured(case, chance)
    elif case[8:9] == b"{" and chance.random() < 0.7:
        case = _reheaded(case, chance)
    for _ in range(chance.randrange(4)):
        case = _changed(case, chance, target.seeds)
    return case


def _changed(case: bytes, chance: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    at = chance.randrange(len(case) + 1)
    to = min(len(case), at + chance.randrange(1, 20))
    other, token = chance.choice(seeds), chance.choice(_TOKENS)
    between = chance.choice(
        (
            bytes([chance.randrange(256)]),
            b"",
            case[at:to] * chance.choice((2, 3, 50, 2000)),
            token + case[at:to],
            token * chance.choice((1, 2, 500)),
        )
    )
    rest = chance.choice((case[to:], case[to:], case[to:], other[chance.randrange(len(other) + 1) :], b""))
    return case[:at] + between + rest


def _reheaded(case: bytes, chance: random.Random) -> bytes:
    """A safetensors file with another header, whose length is right or is not."""
    length = struct.unpack("<Q", case[:8])[0]
    header = _restructured(case[8 : 8 + length], chance)
    said = chance.choice(
        (len(header), len(header), len(header), 0, 1, 2**40, 2**63, 2**64 - 1, len(header) + 8)
    )
    return struct.pack("<Q", said) + header + case[8 + length :]


def _restructured(case: bytes, chance: random.Random) -> bytes:
    value = json.loads(case)
    for _ in range(chance.randrange(1, 4)):
        value = _replaced(value, chance)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _replaced(value: Any, chance: random.Random) -> Any:
    """A value with one place in it changed."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        changed = dict(value)
        match chance.randrange(8):
            case 0:
                del changed[key]
            case 1:
                changed[str(chance.choice(_ODD))] = chance.choice(_ODD)
            case 2:
                changed[key] = _deep(value[key], chance.choice((1, 2, 250)))
            case _:
                changed[key] = _replaced(value[key], chance)
        return changed
    if isinstance(value, list) and value and chance.random() < 0.85:
        at = chance.randrange(len(value))
        many = value * chance.choice((0, 2, 100))
        return (
            many if chance.random() < 0.2 else [*value[:at], _replaced(value[at], chance), *value[at + 1 :]]
        )
    return chance.choice(_ODD)


def _deep(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value
