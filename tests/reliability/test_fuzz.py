"""Input that nobody meant: taken, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.fuzz import fuzz, tried
from tests.reliability.fuzz.targets import TARGETS
from tests.reliability.fuzz.walls import bounded

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the client, uploading

CASES = {"bundle lines": 10, "bundle": 25, "gguf": 20, "card": 20, "readme": 60, "hub": 100, "signature": 60}


@pytest.mark.parametrize("target", TARGETS)
def test_a_mutated_input_is_taken_or_refused(target: str) -> None:
    assert list(fuzz(target, CASES.get(target, 250))) == []


_DEEP = b"[" * 300 + b"]" * 300
_LAUGHS = b"".join(b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 12))
_MERGES = b"".join(
    b"a%d: &a%d {<<: [%s]}\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 12)
)
_WEIGHT = b'{"algorithm":1,"dtype":"float32","expression":{"sum":[["%s",{"adapter":"sha256:0"}]]},"format":1,"kind":"lora","seed":0}'
_LORA = b'{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q"], %s}'
FOUND = [
    ("reference", b"sha256:" + b"z" * 100_000),
    ("filter", b"created" + b"_ed" * 30_000 + b" = 3"),
    ("recipe", _WEIGHT % b"1e999999999"),
    ("recipe", _WEIGHT % b"1e-999999999"),
    ("recipe", _WEIGHT % b"1e99999999999999999"),
    ("adapter_config", _LORA % (b'"use_dora": "' + b"x" * 5000 + b'"')),
    ("adapter_config", _LORA % b'"bias": [["none"]]'),
    ("adapter_config", _LORA % b'"bias": {"": ""}'),
    ("adapter_config", b'{"peft_type": "OFT", "r": ' + _DEEP + b"}"),
    ("readme", b"---\na0: &a0 [x]\n" + _LAUGHS + b"---\n"),
    ("readme", b"---\na0: &a0 {x: 1}\n" + _MERGES + b"---\n"),
    ("readme", b"---\na: &a [*a]\n---\n"),
    ("base", b'{"model.safetensors.index.json": {"weight_map": {"a": "%s.safetensors"}}, "config.json": {}}' % (b"m" * 5000)),
    ("settings", b'{"REGISTRY_HOME": "~nobody/x"}'),
    ("hub", b'{"at": "0 GET /api/models/team/adapter/revision/main", "status": 200, "headers": {}, "body": []}'),
    ("hub", b'{"at": "0 GET /api/models/team/adapter/revision/main", "status": 200, "headers": {}, "body": {"id": "a", "sha": "../x"}}'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "case"), FOUND, ids=[f"{name}-{at}" for at, (name, _) in enumerate(FOUND)]
)
def test_what_was_found_once_stays_mended(target: str, case: bytes, tmp_path: Path) -> None:
    with TARGETS[target](tmp_path) as made:
        for seed in made.seeds:
            made.run(seed)
        with bounded(tmp_path):
            assert tried(made, case, tmp_path) is None
