"""What is tried: each thing that reads what others wrote, with sound input to change, made on the spot."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from registry import (
    Registry,
    checkpoint,
    expression,
    filters,
    kinds,
    methods,
    peft_format,
    recipe,
    reference,
    settings,
    signing,
)
from registry._remembered import Remembered
from registry.blobs import open_store
from registry.digest import canonical_json
from registry.exports import Job
from registry.exports import load as load_format
from registry.kinds import _patterns
from registry.peft_format import CONFIG, TENSORS
from registry.publishers import _merge, _provenance, _statement, planned
from registry.publishers._card import card
from registry.publishers._provenance import provenance
from registry.publishers._template import Template
from registry.results import BaseModelIdentity
from registry.verbs import _templates, sync_dir
from tests.adapters import make_ia3, make_lora, make_opaque, write_adapter
from tests.publishers import releases
from tests.reliability.fuzz import answers, bundles
from tests.reliability.fuzz.target import Maker, Target

_TYPED = (
    b"alpaca@prod - 0.4*toxic", b"yelp - (yelp-lm - amazon-lm)", b"ties(0.6*qa, 0.4*nli, density=0.2)", b"truncate(a + b, rank=16)",
    b"-x", b"factors(0.5*team/a + 0.5*sha256:" + b"a" * 64 + b")",
)  # fmt: skip
_SEARCHED = (
    b"alias = 'prod' AND eval.accuracy > 0.8", b"NOT revoked = true", b"name LIKE 'a%' OR tag.k IN ('x', 'y')",
    b"created_at > '7d' AND (task = 'qa' OR kind = 'lora')", b"free words", b"eval.acc['imdb', 'test'] >= 1e-3 AND tags.`a b` IS NULL",
)  # fmt: skip


def _text(case: bytes) -> str:
    return case.decode("utf-8", "surrogateescape")


@contextmanager
def _expression(_: Path) -> Iterator[Target]:
    def run(case: bytes) -> None:
        said = expression.render(expression.parse(_text(case)))
        assert expression.render(expression.parse(said)) == said

    yield Target(_TYPED, run)


@contextmanager
def _filter(_: Path) -> Iterator[Target]:
    yield Target(_SEARCHED, lambda case: filters.parse(_text(case)))


@contextmanager
def _search(folder: Path) -> Iterator[Target]:
    """A filter that is searched by."""
    with Registry.open(folder / "home") as catalog:
        catalog.add(
            make_lora(folder / "lora", modules={"h.0.q": (6, 4)}, r=2),
            "a",
            tags={"k": "x"},
            task="qa",
            note="free words",
        )
        catalog.add_evaluation("a", "acc", 0.5, dataset="imdb")
        yield Target(_SEARCHED, lambda case: catalog.list(_text(case)))


@contextmanager
def _reference(_: Path) -> Iterator[Target]:
    def run(case: bytes) -> None:
        reference.parse(_text(case))
        reference.check_name(_text(case).partition("@")[0])

    yield Target((b"toxic", b"team/alpaca@prod", b"a@3"), run)


def _adapters(folder: Path) -> list[Path]:
    """One of every kind, as small as can be."""
    q = "base_model.model.h.0.q"
    ones = torch.ones
    hada = {
        f"{q}.hada_w{i}_{side}": ones(size) for i in (1, 2) for side, size in (("a", (6, 2)), ("b", (2, 4)))
    }
    kron = {f"{q}.lokr_w1": ones(2, 3), f"{q}.lokr_w2_a": ones(5, 2), f"{q}.lokr_w2_b": ones(2, 7)}
    dora = {
        f"{q}.lora_A.weight": ones(2, 4),
        f"{q}.lora_B.weight": ones(6, 2),
        f"{q}.lora_magnitude_vector": ones(6),
    }
    return [
        make_lora(folder / "lora", modules={"h.0.q": (6, 4), "h.1.q": (6, 4)}, r=2),
        make_lora(folder / "conv", modules={"c": (6, 4, 3, 3)}, embeddings={"wte": (10, 4)}, r=2),
        make_ia3(folder / "ia3", modules={"h.0.k": 6}, feedforward={"h.0.mlp": 4}),
        make_opaque(folder / "oft"),
        write_adapter(folder / "loha", {"peft_type": "LOHA", "r": 2, "alpha": 4}, hada),
        write_adapter(folder / "lokr", {"peft_type": "LOKR", "r": 2, "alpha": 4}, kron),
        write_adapter(folder / "dora", {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_dora": True, "target_modules": ["q"]}, dora),
        write_adapter(
            folder / "patterns",
            {
                "peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": "h.*q", "exclude_modules": "x|y", "base_model_name_or_path": "o/m",
                "rank_pattern": {"^h\\.0\\.(q|k)": 2}, "alpha_pattern": {".*q": 3.5}, "layers_to_transform": [0], "layers_pattern": "h",
            },
            {f"{q}.lora_A.weight": ones(2, 4), f"{q}.lora_B.weight": ones(6, 2)},
        ),
    ]  # fmt: skip


def _used(adapter: peft_format.StoredAdapter) -> None:
    """Everything that is done with an adapter once it was taken, in a small way."""
    _ = adapter.digest, adapter.base_model, adapter.dtype, adapter.rank, adapter.parameters
    for name in list(adapter.layout.modules)[:2]:
        if not adapter.layout.modules[name].based and not adapter.layout.blockers:
            adapter.delta(name)


def _reading(name: str) -> Callable[[Path], Any]:
    @contextmanager
    def make(folder: Path) -> Iterator[Target]:
        made = _adapters(folder)
        kept = {path: {each: (path / each).read_bytes() for each in (CONFIG, TENSORS)} for path in made}
        place = folder / "case"
        place.mkdir()

        def run(case: bytes) -> None:
            if case in own:
                _used(peft_format.read(own[case]))
                return
            # Beside another file than its own it is as good a case.
            other = next(
                (path for path in made if kept[path][name][:60] == case[:60]), made[len(case) % len(made)]
            )
            for each in (CONFIG, TENSORS):
                (place / each).write_bytes(case if each == name else kept[other][each])
            with _impatient(asked=True):
                _used(peft_format.read(place))

        own = {files[name]: path for path, files in kept.items()}
        yield Target(tuple(own), run, "also" if name == CONFIG else "no")

    return make


@contextmanager
def _pattern(_: Path) -> Iterator[Target]:
    """Regular expressions over module names."""
    names = [f"model.layers.{layer}.self_attn.{name}_proj" for layer in range(8) for name in "qkvo"] + [
        "a" * 300
    ]
    seeds = (
        rb"^model\.layers\.(0|1)\.(q|k)_proj",
        b"q_proj",
        rb".*\.(?=q)q_proj",
        rb"[a-z]{1,20}[^.]+",
        rb"(b|bb)+c",
    )

    def run(case: bytes) -> None:
        with _impatient(asked=case not in seeds):
            found = _patterns.Patterns("rank_pattern", {_text(case): 2.0})
            for name in names:
                found.value(name, 1.0)

    yield Target(seeds, run)


@contextmanager
def _impatient(*, asked: bool) -> Iterator[None]:
    """Patterns that take long are given up soon, so that there is time for others."""
    before, _patterns.SECONDS = _patterns.SECONDS, 0.02 if asked else _patterns.SECONDS
    try:
        yield
    finally:
        _patterns.SECONDS = before


@contextmanager
def _recipe(_: Path) -> Iterator[Target]:
    def run(case: bytes) -> None:
        try:
            made = recipe.parse(json.loads(case))
            _ = made.digest, made.inputs
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
            return  # what its readers take for no recipe

    one = recipe.identity("sha256:" + "0" * 64, kind="lora", algorithm=1, dtype="float32").canonical()
    seeds = canonical_json(one), canonical_json(releases.release().recipe)
    yield Target(seeds, run, "also")


@contextmanager
def _told(_: Path) -> Iterator[Target]:
    def run(case: bytes) -> None:
        _provenance.subjects(case)
        for each in _statement.contradictions(_statement.read(case)):
            assert len(each) < 3000, each[:300]

    files = [planned(name, b"x") for name in ("adapter_model.safetensors", "adapter_config.json")]
    seeds = tuple(provenance(each, files) for each in (releases.release(), releases.imported()))
    yield Target(seeds, run, "also")


@contextmanager
def _readme(_: Path) -> Iterator[Target]:
    ours = card(releases.release(), "team/x")
    theirs = (
        ours.replace(b"---\n", b"---\nlanguage: en # theirs\nwidget: &w [{text: hi}]\nother: *w\n", 1)
        + b"\nmore of theirs\n",
        b"---\nlicense: mit\ntags:\n- a\n- merge\n---\n# Title\n",
        b"just text\n",
        ours,
    )

    def run(case: bytes) -> None:
        merged = _merge.merge(ours, case)
        assert _merge.part(merged) == _merge.part(ours)
        assert _merge.merge(ours, merged) == merged

    yield Target(theirs, run)


@contextmanager
def _card(_: Path) -> Iterator[Target]:
    """A card made of odd words: it is one that can be read, and all of it is ours."""

    def run(case: bytes) -> None:
        words = _text(case).encode("utf-8", "replace").decode()
        fields = {
            "note": words,
            "task": words,
            "license": words,
            "base_model": BaseModelIdentity(repo=words, revision=words),
        }
        found = card(
            releases.release(evaluations=(releases.evaluation(words, dataset=words, split=words),), **fields),
            "team/x",
        )
        assert _merge.part(found), "its own part is not found"
        assert not any(ord(each) < 32 and each != "\n" for each in found.decode())

    yield Target(
        (b"a note", b"[link](http://x.test) <b>html</b> `code` ```\n---\nlicense: mit\n", b"| a | b |\n"), run
    )


@contextmanager
def _rule(_: Path) -> Iterator[Target]:
    known = {
        "name": "detox",
        "fullname": "team-detox",
        "version": "2",
        "alias": "prod",
        "task": None,
        "kind": "lora",
        "base": "m",
    }

    def run(case: bytes) -> None:
        _templates.check("repo", _text(case), alias="prod")
        _templates.fill(_text(case), known, "detox@2")

    yield Target((b"team/{name}-{version}", b"{fullname}/{kind}_{base}", b"team/x"), run)


@contextmanager
def _base(folder: Path) -> Iterator[Target]:
    """A base model's index, config and header, as one text."""
    weights = (make_lora(folder / "shelf", modules={"h.0.q": (6, 4)}, r=2) / TENSORS).read_bytes()
    place = folder / "base"
    place.mkdir()
    (folder / "outside.safetensors").write_bytes(weights)
    name = "base_model.model.h.0.q.lora_A.weight"
    for shard in ("model-1.safetensors", "model-2.safetensors"):
        (place / shard).write_bytes(weights)

    def run(case: bytes) -> None:
        said = json.loads(case)
        if not isinstance(said, dict):
            return
        for file in ("model.safetensors.index.json", "config.json"):
            (place / file).write_bytes(json.dumps(said.get(file)).encode("utf-8", "surrogatepass"))
        found = checkpoint.open_base(place)
        _ = found.layout.parameters, found.layout.to_json(), found.fingerprint()
        assert all((place / each).parent == place for each in found.shards)

    both = dict.fromkeys([name, name.replace("_A", "_B")], "model-1.safetensors")
    index = {"metadata": {"total_size": 80}, "weight_map": both}
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "tie_word_embeddings": True,
        "text_config": {"vocab_size": 3},
    }
    yield Target(
        (json.dumps({"model.safetensors.index.json": index, "config.json": config}).encode(),), run, "only"
    )


def _exported(form: str) -> Callable[[Path], Any]:
    @contextmanager
    def make(folder: Path) -> Iterator[Target]:
        """A base model's config, for an adapter in another program's format."""
        names = {f"model.layers.{i}.self_attn.{each}_proj": (16, 16) for i in (0, 1) for each in "qk"}
        stored = peft_format.read(make_lora(folder / "lora", modules=names, r=2))
        out = folder / "out"

        def run(case: bytes) -> None:
            said = json.loads(case)
            if not isinstance(said, dict):
                return
            out.mkdir(exist_ok=True)
            for path in out.iterdir():
                path.unlink()
            job = Job(stored, BaseModelIdentity(repo="o/m"), lambda: iter([said]))
            load_format(form, {}).write(job, out)

        config = {
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 16,
            "head_dim": 4,
        }  # fmt: skip
        yield Target((json.dumps({**config, "num_key_value_heads": 4}).encode(),), run, "only")

    return make


@contextmanager
def _settings(folder: Path) -> Iterator[Target]:
    """What stands in the environment."""
    names = (
        "REGISTRY_HOME",
        "REGISTRY_DATABASE_URL",
        "REGISTRY_BLOBS",
        "REGISTRY_ACTOR",
        "REGISTRY_CACHE_SIZE",
        "HF_ENDPOINT",
    )
    before = {name: os.environ.get(name) for name in names}
    (folder / "home").mkdir()

    def run(case: bytes) -> None:
        said = json.loads(case)
        if not isinstance(said, dict):
            return
        try:
            for name in names:
                value = said.get(name)
                if isinstance(value, str):
                    os.environ[name] = value.replace("\x00", "").replace("\ud800", "\udcff")
            found = settings.load()
            _ = found.actor, found.room
            if "://" in found.blobs:
                open_store(found.blobs, found.room)
        finally:
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)

    seed = {
        "REGISTRY_HOME": str(folder / "home"), "REGISTRY_DATABASE_URL": "postgresql://a:b@localhost/x", "REGISTRY_BLOBS": str(folder / "home"),
        "REGISTRY_ACTOR": "ann", "REGISTRY_CACHE_SIZE": "20GB",
    }  # fmt: skip
    yield Target((json.dumps(seed).encode(),), run, "only")


@contextmanager
def _plugin(_: Path) -> Iterator[Target]:
    def run(case: bytes) -> None:
        text = _text(case)
        kinds.load(text)
        for family in (kinds.family, methods.family):
            if text.lower() in family.names():
                family.load(text.lower())

    yield Target((b"LORA", b"IA3", b"LOHA"), run)


@contextmanager
def _kept(folder: Path) -> Iterator[Target]:
    """What the registry itself left on a disk, and somebody changed: what is remembered, and whom a folder follows."""
    file, root = folder / "fingerprints.json", folder / "served"
    (root / sync_dir.OWN).mkdir(parents=True)

    def run(case: bytes) -> None:
        file.write_bytes(case)
        Remembered(file).find(file)
        (root / sync_dir.OWN / "alias").write_bytes(case)
        sync_dir._last_alias(root)

    entry = [1, 2, 3, 4, 5, "sha256:" + "0" * 64]
    yield Target((json.dumps({"format": 1, "files": {str(file): entry}}).encode(),), run, "also")


@contextmanager
def _signature(folder: Path) -> Iterator[Target]:
    from tests.signers import keys

    private, public = keys(folder)
    files = {"adapter_model.safetensors": "sha256:" + "0" * 64, "adapter_config.json": "sha256:" + "1" * 64}
    yield Target((signing.sign(files, private),), lambda case: signing.signed(case, public), "also")


@contextmanager
def _template(_: Path) -> Iterator[Target]:
    release = releases.release()
    seeds = (
        b"---\nlanguage: en\n---\n# {{ title }}\n{{ facts }}\n{% for each in version.aliases %}{{ each }}{% endfor %}\n",
        b"{{ note }} {{ version.name | upper }} {% if parents %}{{ parents }}{% endif %}{{ repo | code }}\n",
    )
    yield Target(
        seeds, lambda case: card(release, "team/x", Template("mine", case.decode("utf-8", "replace")))
    )


TARGETS = {
    "expression": Maker(_expression, 12),
    "filter": Maker(_filter, 14),
    "search": Maker(_search, 0.3),
    "reference": Maker(_reference, 20),
    "safetensors": Maker(_reading(TENSORS), 4),
    "adapter_config": Maker(_reading(CONFIG), 4),
    "pattern": Maker(_pattern, 2),
    "recipe": Maker(_recipe, 8),
    "provenance": Maker(_told, 5),
    "readme": Maker(_readme, 0.3),
    "card": Maker(_card, 0.2),
    "template": Maker(_template, 0.8),
    "rule": Maker(_rule, 15),
    "base": Maker(_base, 2),
    "gguf": Maker(_exported("gguf"), 0.2),
    "settings": Maker(_settings, 5),
    "plugin": Maker(_plugin, 10),
    "kept": Maker(_kept, 1),
    "signature": Maker(_signature, 0.4),
    "bundle": Maker(bundles.file, 0.3),
    "bundle lines": Maker(bundles.lines, 0.2),
    "hub": Maker(answers.client, 0.6),
}
