"""The picture of a conflict: its cells are what dense matrices give, and stand where their modules do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import colormaps

from registry import Registry
from registry.errors import NotFound, NotHeld, Refused, UsageError
from registry.plots import Drawing, encode
from registry.plots._grid import grid
from registry.plots.conflict import MEASURES, PAIRS, figure
from registry.verbs.gc import gc
from tests.adapters import LINEARS, lora_deltas, make_ia3, make_lora
from tests.cli import samples
from tests.plots import svg

MODEL = {
    f"model.layers.{layer}.{name}": (10, 8)
    for layer in range(4)
    for name in ("mlp.up_proj", "self_attn.q_proj")
}


def drawn(catalog: Registry, subject: str, folder: Path) -> Any:
    catalog.plot("conflict", subject, folder / "a.svg", replace=True)
    return svg.read((folder / "a.svg").read_bytes())


def dense(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    return {name: delta.numpy() for name, delta in lora_deltas(folder).items()}


def projector(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    u, s, _ = np.linalg.svd(x)
    basis = u[:, : int((s > 1e-6 * s[0]).sum())]
    return np.asarray(basis @ basis.T)


def measured(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], rank: int) -> dict[str, float]:
    """The definitions, on whole matrices."""
    return {
        "cosine": float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)),
        "sign-conflict": float((np.sign(a) != np.sign(b)).mean()),
        "column-overlap": float(np.trace(projector(a) @ projector(b)) / rank),
        "row-overlap": float(np.trace(projector(a.T) @ projector(b.T)) / rank),
    }


def test_every_cell_is_what_dense_matrices_give(local: Registry, tmp_path: Path) -> None:
    folders = [make_lora(tmp_path / name, modules=MODEL, r=3, seed=seed) for seed, name in enumerate("ab")]
    for folder in folders:
        local.add(folder, folder.name)
    local.compose("c", "a - 0.4*b")
    root = drawn(local, "c", tmp_path)
    one, other = map(dense, folders)
    expected = {name: measured(one[name], -other[name], 3) for name in MODEL}
    said = svg.texts(root)
    for measure in MEASURES:
        values = [expected[name][measure.name] for name in MODEL]
        worst = min(values) if measure.worst_is_low else max(values)
        word = "lowest" if measure.worst_is_low else "highest"
        assert f"mean {np.mean(values):.3f}, {word} {worst:.3f}".replace("-", "−") in said
        middle = {"cosine": 0.0, "sign-conflict": 0.5}.get(measure.name, 0.0)
        reach = next(
            x for x in (0.05, 0.1, 0.2, 0.5, 1.0) if max(abs(v - middle) for v in values) <= x + 1e-6
        )
        low = middle - reach if measure.name in {"cosine", "sign-conflict"} else 0.0
        cells = svg.shapes(root, f"{measure.name}-0")
        assert len(cells) == len(MODEL)
        in_order = [
            f"model.layers.{layer}.{name}"
            for name in ("mlp.up_proj", "self_attn.q_proj")
            for layer in range(4)
        ]
        for name, cell in zip(in_order, cells, strict=True):
            share = (expected[name][measure.name] - low) / (middle + reach - low)
            wanted = [round(255 * part) for part in colormaps[measure.colours](share)[:3]]
            assert max(abs(x - y) for x, y in zip(svg.colour(cell), wanted, strict=True)) <= 4, (
                name,
                measure.name,
            )
    assert {"q_proj", "up_proj", "a@1 with b@1", "0", "1", "2", "3"} <= set(said)


def test_an_expression_is_compared_as_it_stands(catalog: Registry, tmp_path: Path) -> None:
    catalog.add(make_lora(tmp_path / "a"), "a")
    catalog.add(make_lora(tmp_path / "b", seed=1), "b")
    assert "mean 1.000" not in " ".join(svg.texts(drawn(catalog, "a + b", tmp_path)))
    catalog.compose("same", "2*a")
    same, opposite = (svg.texts(drawn(catalog, text, tmp_path)) for text in ("a + same", "a - same"))
    assert "mean 1.000, lowest 1.000" in same
    assert "mean −1.000, lowest −1.000" in opposite
    assert "mean 1.000, highest 1.000" in opposite  # of the signs, and of both spaces


def test_rescalings_have_directions_and_signs_only(local: Registry, tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        local.add(make_ia3(tmp_path / name, seed=seed), name)
    root = drawn(local, "a + b", tmp_path)
    assert svg.ids(root, "cosine-0") == ["cosine-0"]
    assert svg.ids(root, "sign-conflict-0") == ["sign-conflict-0"]
    assert not svg.ids(root, "column-overlap")
    assert {"k_proj", "down_proj"} <= set(svg.texts(root))


def test_a_value_that_is_not_defined_is_hatched_and_not_coloured(local: Registry, tmp_path: Path) -> None:
    name = next(iter(LINEARS))
    zero = {f"base_model.model.{name}.lora_B.weight": torch.zeros(12, 4)}
    local.add(make_lora(tmp_path / "a", extra=zero), "a")
    local.add(make_lora(tmp_path / "b", seed=1), "b")
    root = drawn(local, "a + b", tmp_path)
    for measure in MEASURES:
        assert len(svg.shapes(root, f"{measure.name}-0")) == len(LINEARS) - 1
        assert len(svg.ids(root, f"{measure.name}-0-undefined")) == 1


def test_of_many_pairs_those_whose_signs_conflict_most_are_drawn(local: Registry, tmp_path: Path) -> None:
    for seed, name in enumerate("abcde"):
        local.add(make_lora(tmp_path / name, seed=seed), name)
    made = local.plot("conflict", "a + b - c + d - 0.5*e", tmp_path / "a.svg")
    found = local.check("a + b - c + d - 0.5*e", conflicts=True).conflicts
    agreement = {f"{pair.a} with {pair.b}": pair.sign_agreement.mean for pair in found if pair.sign_agreement}
    worst = sorted(agreement, key=agreement.__getitem__)[:PAIRS]
    said = svg.texts(svg.read((tmp_path / "a.svg").read_bytes()))
    assert [text for text in said if " with " in text] == worst
    assert made.notes == (f"of 10 pairs these {PAIRS}, whose signs conflict most",)
    assert made.notes[0] in said


def test_what_has_no_conflict_is_refused_in_a_line(local: Registry, tmp_path: Path) -> None:
    local.add(make_lora(tmp_path / "a"), "a")
    local.add(make_lora(tmp_path / "b", modules={"model.layers.7.mlp.up_proj": (4, 4)}), "b")
    for subject, error, message in (
        ("a", UsageError, "a@1 was not composed"),
        ("2*a", UsageError, r"2\*a has one input"),
        ("a + b", Refused, r"the inputs of a \+ b have no module in common"),
        ("nobody", NotFound, "nobody"),
        ("a +", UsageError, "at column"),
    ):
        with pytest.raises(error, match=message):
            local.plot("conflict", subject, tmp_path / "x.svg")
    assert not (tmp_path / "x.svg").exists()


def test_what_was_revoked_or_deleted_is_drawn_and_named(catalog: Registry, tmp_path: Path) -> None:
    """A picture explains what was made: nothing is composed of them any more."""
    for seed, name in enumerate("ab"):
        catalog.add(make_lora(tmp_path / name, seed=seed), name)
    catalog.compose("bad", "2*a")
    catalog.compose("c", "bad - 0.4*b")
    whole = drawn(catalog, "c", tmp_path)
    catalog.revoke("a", "made up \u202ereviews")
    catalog.delete("b")
    catalog.delete("c")
    for expression, error in (("2*bad", Refused), ("2*b@1", NotFound)):
        with pytest.raises(error):
            catalog.check(expression)
    made = catalog.plot("conflict", "c@1", tmp_path / "x.svg")
    assert made.notes == (
        "bad@1 was derived from a@1, which was revoked: made up \u202ereviews",
        "b@1 was deleted",
    )
    said = svg.texts(svg.read((tmp_path / "x.svg").read_bytes()))
    notes = [made.notes[0].replace("\u202e", "\\u202e"), made.notes[1]]
    assert set(notes) <= set(said)
    assert [each for each in said if each not in notes] == svg.texts(whole)
    assert catalog.plot("conflict", "bad - 0.4*b@1", tmp_path / "y.svg").notes == made.notes
    gc(catalog._database, catalog._blobs, apply=True, actor="tester", grace=timedelta(0))
    with pytest.raises(NotHeld, match="b@1 was deleted, and a garbage collection removed its bytes"):
        catalog.plot("conflict", "c@1", tmp_path / "z.svg")
    assert not (tmp_path / "z.svg").exists()


def test_of_many_reasons_a_few_are_in_the_picture(local: Registry, tmp_path: Path) -> None:
    for seed, name in enumerate("abcdef"):
        local.add(make_lora(tmp_path / name, seed=seed), name)
        local.revoke(name, "bad")
    notes = local.plot("conflict", "a + b + c + d + e + f", tmp_path / "x.svg").notes
    reasons = [f"{name}@1 was revoked: bad" for name in "abcd"]
    assert list(notes[:5]) == [*reasons, "and 2 more of such reasons"]


def test_modules_stand_by_layer_and_projection() -> None:
    names = ["model.embed_tokens", "lm_head"]
    names += [f"model.layers.{i}.{p}" for i in (0, 2, 11) for p in ("self_attn.q_proj", "mlp.up_proj")]
    found = grid(names, most=40)
    assert found.columns == (None, 0, 2, 11)
    assert found.rows == ("lm_head", "embed_tokens", "up_proj", "q_proj")
    assert found.cells["q_proj", 11] == ("model.layers.11.self_attn.q_proj",)
    assert len(found.cells) == len(names)
    assert not found.merged


def test_rows_that_end_alike_are_told_apart() -> None:
    found = grid(
        [f"encoder.layer.{i}.{part}.query" for i in range(2) for part in ("attention", "crossattention")],
        most=9,
    )
    assert found.rows == ("attention.query", "crossattention.query")
    sides = grid([f"{side}.block.{i}.layer.0.q" for i in range(2) for side in ("encoder", "decoder")], most=9)
    assert sides.rows == ("decoder.q", "encoder.q")


def test_many_experts_share_a_cell_and_that_is_said() -> None:
    names = [f"model.layers.{i}.experts.{e}.{w}" for i in range(2) for e in range(64) for w in ("w1", "w2")]
    found = grid(names, most=40)
    assert found.rows == ("w1", "w2")
    assert found.merged
    assert len(found.cells["w2", 1]) == 64
    with pytest.raises(ValueError, match="50 projections"):
        grid([f"layers.0.p{i}" for i in range(50)], most=40)


def test_a_pair_that_lacks_a_projection_leaves_its_cells_white() -> None:
    whole = samples.conflict()
    part = samples.conflict(b="other@1", modules=whole.modules[:3])
    root = svg.read(encode(Drawing(figure([whole, part], "t"), "x", "t"), "svg"))
    assert [len(svg.shapes(root, f"cosine-{row}")) for row in (0, 1)] == [8, 3]
