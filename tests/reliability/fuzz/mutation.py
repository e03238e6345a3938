"""Changing what is sound: bytes anywhere, JSON as JSON, and the header of a safetensors file as its header."""

from __future__ import annotations

import json
import random
import struct
from typing import Any, Literal

Structure = Literal["no", "also", "only"]
"""Whether a seed is JSON that is changed as such too, or as nothing else."""

TOKENS = [
    b"\x00", b"\xff\xfe", b"\xe2\x80\xae", b"\x1b[31m", b"..", b"/", b"../../etc/passwd", b"@", b"@v3", b"sha256:", b"-", b" - ",
    b" + ", b"*", b"(", b")", b",", b"=", b"1e999", b"1e999999999", b"NaN", b"Infinity", b"-0", b"0x10", b"99999999999999999999",
    b"truncate(", b"ties(", b"rank=", b"density=", b'"', b"'", b"%", b"_", b" AND ", b" OR ", b"NOT ", b" IN ", b"LIKE", b"[", b"]", b"{",
    b"}", b"null", b"true", b"lora_A", b".weight", b"(a+)+$", b".*", b"\\u0000", b"\\ud800", b"model.layers.0", b"base_model.model.",
    b"\n", b"\t", b":", b"\xef\xbb\xbf", b"~nobody/", b"&a ", b"*a", b"<<: ", b"---\n", b"!!python/name:os.system ", b"- ", b"# ",
    b"<!-- adapter-registry: begin {} -->\n", b"<!-- adapter-registry: end -->\n", b"{{ 7 * 7 }}", b"{% for x in version %}", b"{name}",
]  # fmt: skip
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, -(2**63) - 1, 0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"), "",
    "x" * 5000, "..", "../x", "../../../../../../tmp/out", "/etc/passwd", "/tmp/out", "\x00", "\x1b[2J", "\u202eevil", "\ud800", "(a+)+$",
    "^(.*)*$", "((a{90}){90}){90}", "re:(", [], [[]], [None], {}, {"": ""}, [0] * 100, ["q_proj"] * 300, "all-linear", "cuda", "NaN",
    "1e999", "1e999999999", "-1e-999999999", "9" * 5000, "2026-99-99", "CON", "~nobody/x", "hf://../..@..", "http://elsewhere.test/x",
]  # fmt: skip
_ENDS = (0, 1, 2**40, 2**63, 2**64 - 1)


def mutated(seeds: tuple[bytes, ...], chance: random.Random, *, structured: Structure) -> bytes:
    """A seed, changed in a few places."""
    case = chance.choice(seeds)
    if structured == "only" or (structured == "also" and chance.random() < 0.8):
        case = _restructured(case, chance)
        if structured == "only" or chance.random() < 0.8:
            return case
    elif case[8:9] == b"{" and chance.random() < 0.7:
        case = _reheaded(case, chance)
    for _ in range(chance.randrange(4)):
        case = _changed(case, chance, seeds)
    return case


def _changed(case: bytes, chance: random.Random, seeds: tuple[bytes, ...]) -> bytes:
    at = chance.randrange(len(case) + 1)
    to = min(len(case), at + chance.randrange(1, 20))
    other, token = chance.choice(seeds), chance.choice(TOKENS)
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
    said = chance.choice((*[len(header)] * 6, len(header) + 8, *_ENDS))
    return struct.pack("<Q", said) + header + case[8 + length :]


def _restructured(case: bytes, chance: random.Random) -> bytes:
    value = json.loads(case)
    for _ in range(chance.randrange(1, 4)):
        value = _replaced(value, chance)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _replaced(value: Any, chance: random.Random) -> Any:
    """A value with one place in it changed."""
    if isinstance(value, dict) and value and chance.random() < 0.92:
        key = chance.choice(list(value))
        changed = dict(value)
        match chance.randrange(10):
            case 0:
                del changed[key]
            case 1:
                changed[str(chance.choice(ODD))] = chance.choice(ODD)
            case 2:
                changed[key] = _deep(value[key], chance.choice((1, 2, 250, 3000)))
            case 3:
                changed[key] = changed[chance.choice(list(value))]
            case _:
                changed[key] = _replaced(value[key], chance)
        return changed
    if isinstance(value, list) and value and chance.random() < 0.92:
        at = chance.randrange(len(value))
        if chance.random() < 0.15:
            return value * chance.choice((0, 2, 100))
        return [*value[:at], _replaced(value[at], chance), *value[at + 1 :]]
    if isinstance(value, str) and value and chance.random() < 0.5:
        at = chance.randrange(len(value) + 1)
        odd = chance.choice(ODD)
        return f"{value[:at]}{odd if isinstance(odd, str) else '%'}{value[at:]}"
    if isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.5:
        return value + chance.choice((-1, 1, 8, -value - 1, 10**10, 2**62))
    return chance.choice(ODD)


def _deep(value: Any, depth: int) -> Any:
    for _ in range(depth if depth < 1000 else 0):
        value = [value]
    return value
