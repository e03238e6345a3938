"""The model card of a release: front matter for the Hub, a page for people. The same release gives the same card."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from registry import expression, hub, recipe
from registry.errors import UsageError
from registry.licenses import LICENSES
from registry.publishers import PROVENANCE, Chosen, Origin, Release
from registry.publishers._markup import block, code, mermaid, one_line, plain, shell, table
from registry.publishers._merge import compose
from registry.publishers._template import Markdown, Template, built_in, render
from registry.reference import Reference
from registry.results import Evaluation, LineageNode, Version

_KINDS = {"lora": "LoRA", "ia3": "(IA)³"}
_CLASSES = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
}
_LARGEST_DIAGRAM = 100
_MOST_LICENSES = 50
_MOST_ROWS = 500
_MOST_NAMES = 100_000  # characters of the evaluations in the front matter, which is to stay below MAX_FRONT
_TAG, _TAGS = "adapter-registry", "tags"
_RELATIONS = ("adapter", "merge", "finetune", "quantized")
_PROVENANCE = f"{code(PROVENANCE)} is an in-toto statement with a SLSA provenance predicate: "
_COMPUTED = (
    "the sha256 of every computed file, the recipe, the digests of all inputs, and the library versions and device "
    "they were computed with"
)
_AS_IT_IS = "the sha256 of the adapter's files, what it is, and where it came from as far as that is known"
_NO_BASE = "PATH/OF/THE/BASE/MODEL"
_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII)


def card(release: Release, repo: str, template: Template | None = None) -> bytes:
    """The README.md of a release in ``repo``, by a team's template or ours.

    Raises ``UsageError`` for a template that fails, or whose front matter the Hub would not take, and for a card that is
    too long to be merged with what others write.
    """
    template = template or built_in()
    set_there, page = render(template, _values(release, repo))
    front = front_matter(release)
    # What is known of the release is not for a template to say otherwise.
    added = {key: value for key, value in set_there.items() if key not in front or key == _TAGS}
    if added:
        _check(added, template)
    tags = [*front[_TAGS], *_listed(added.pop(_TAGS, []))]
    front = {**front, **added, _TAGS: list(dict.fromkeys(tags))}
    return compose(front, page)


def front_matter(release: Release) -> dict[str, Any]:
    """What the Hub reads: only identifiers it accepts, and nothing that is not known."""
    version, adapter = release.version, release.target == "adapter"
    several = len(_inputs(release)) > 1
    base = _base_id(version)
    data: dict[str, Any] = {}
    if base is not None:
        data["base_model"] = base
        data["base_model_relation"] = "adapter" if adapter else "merge" if several else "finetune"
    data["library_name"] = "peft" if adapter else "transformers"
    data |= _license(release.license)
    tags = [one_line(version.kind), _TAG] if adapter else [_TAG]
    if adapter and base is not None:
        tags.append(f"base_model:adapter:{base}")
    data["tags"] = [*tags, "merge"] if several else tags
    if results := _results(version):
        data["model-index"] = [{"name": one_line(version.name), "results": results}]
    return data


def _license(text: str | None) -> dict[str, str]:
    """A license the Hub knows by its identifier; another one by name, as the Hub asks for."""
    if not text or not (shown := one_line(text)):
        return {}
    if shown.lower() in LICENSES - {"other", "unknown"}:
        return {"license": shown.lower()}
    return {"license": "other", "license_name": shown}


def _results(version: Version) -> list[dict[str, Any]]:
    """The evaluations as a model index, one result per dataset and split."""
    grouped: dict[tuple[str, str | None], list[Evaluation]] = {}
    length = 0
    for each in version.evaluations:
        length += 2 * len(each.dataset) + len(each.split or "") + len(each.metric) + len(version.task or "")
        if length > _MOST_NAMES:
            break  # the text has more of them
        # What shows nothing is no name, and the Hub asks for one.
        if math.isfinite(each.value) and one_line(each.dataset) and one_line(each.metric):
            grouped.setdefault((each.dataset, each.split), []).append(each)
    task = one_line(version.task or "") or "other"
    return [
        {
            "task": {"type": task},
            "dataset": {"name": one_line(dataset), "type": one_line(dataset)}
            | ({"split": one_line(split)} if split and one_line(split) else {}),
            "metrics": [{"type": one_line(each.metric), "value": each.value} for each in found],
        }
        for (dataset, split), found in grouped.items()
    ]


def _check(front: dict[str, Any], template: Template) -> None:
    """What the Hub would refuse, in so far as a template can bring it about."""
    for key in ("license", "license_name", "license_link", "pipeline_tag", "library_name"):
        if not isinstance(front.get(key, ""), str):
            raise UsageError(f"{template.name}: {key} in the front matter is no text")
    bases = front.get("base_model", [])
    if not all(isinstance(each, str) and hub.is_repo_id(each) for each in _listed(bases)):
        raise UsageError(f"{template.name}: base_model in the front matter is no model on the Hub")
    for key in ("language", "datasets", "base_model", "tags", "metrics"):
        if not all(isinstance(each, str) for each in _listed(front.get(key, []))):
            raise UsageError(
                f"{template.name}: {key} in the front matter is neither a text nor a list of texts"
            )
    if front.get("base_model_relation", "adapter") not in _RELATIONS:
        raise UsageError(
            f"{template.name}: base_model_relation in the front matter is none of {', '.join(_RELATIONS)}"
        )
    if "model-index" in front and not hub.is_model_index(front["model-index"]):
        raise UsageError(f"{template.name}: model-index in the front matter is malformed")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _values(release: Release, repo: str) -> dict[str, Any]:
    """What a template can use: the sections, as Markdown, and the version as it is."""
    version = release.version
    sections = {
        "what": _what(release),
        "note": plain(version.note or ""),
        "facts": _facts(release),
        "composition": _joined(_composition(release)),
        "parents": _parents(release),
        "lineage": block("mermaid", _diagram(release)) if release.origins else "",
        "evaluations": _evaluations(release),
        "use": block("python", _loading(release, repo)),
        "serving": _joined(_serving(release, repo)),
        "verify": _verifying(repo),
        "rebuild": _joined(_rebuilding(release, repo)),
        "license": _joined(_licensing(release)),
        "provenance": _stating(release),
    }
    return {
        "title": Markdown(f"{plain(version.name)}, version {version.version}"),
        **{name: Markdown(text) for name, text in sections.items()},
        "repo": repo,
        "target": release.target,
        "version": version.model_dump(mode="json"),
    }


def _stating(release: Release) -> str:
    computed = release.version.recipe is not None or release.target == "model"
    return f"{_PROVENANCE}{_COMPUTED if computed else _AS_IT_IS}. It is a record, not a signature."


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(parts)


def _composition(release: Release) -> Iterator[str]:
    recipe = release.version.recipe
    if recipe is not None:
        yield "As it was written, and with every adapter pinned to a version:"
        yield block("text", [recipe.expression, recipe.resolved])
        yield f"Recipe {code(recipe.digest)}."
    if release.chosen is not None:
        yield _choice(release.chosen)


def _choice(chosen: Chosen) -> str:
    values = ", ".join(code(f"{name} = {value}") for name, value in chosen.values.items())
    wanted = ", then ".join(
        f"{'smallest' if each.direction == 'min' else 'largest'} {code(each.metric)}"
        for each in chosen.objectives
    )
    where = f", where {' and '.join(map(code, chosen.constraints))}" if chosen.constraints else ""
    points = "1 point" if chosen.points == 1 else f"{chosen.points:,} points"
    return f"Chosen by a sweep of {code(chosen.expression)} over {points}: {values}, by the {wanted}{where}."


def _parents(release: Release) -> str:
    if not release.origins:
        return ""
    return _shortened(["adapter", "coefficient", "content", "where"], [*map(_origin, release.origins)])


def _evaluations(release: Release) -> str:
    """The values, and those of the parents where they were evaluated on the same."""
    version, compared = release.version, release.comparison
    if not version.evaluations:
        return ""
    if compared is None:
        return _shortened(["dataset", "split", "metric", "value"], [*map(_evaluation, version.evaluations)])
    others = [each for each in compared.others if any(row.others[each] is not None for row in compared.rows)]
    rows = [
        [plain(row.dataset), plain(row.split or "–"), plain(row.metric), _number(row.value)]
        + [_number(row.others[each]) for each in others]
        for row in compared.rows
    ]
    return _shortened(["dataset", "split", "metric", code(version.ref), *map(code, others)], rows)


def _shortened(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that people can read, and the Hub can show."""
    more = len(rows) - _MOST_ROWS
    if more <= 0:
        return table(head, rows)
    return table(head, [*rows[:_MOST_ROWS], [f"and {more} more", *["…"] * (len(head) - 1)]])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


def _licensing(release: Release) -> Iterator[str]:
    terms = release.terms
    if terms is None:
        return
    stated = [each for each in terms.inputs if each.license is not None]
    if terms.license:
        yield f"{code(terms.license)}."
    else:
        yield "No license is claimed for it."
    if stated:
        yield "What it is made of:"
        rows = [[code(each.what), code(str(each.license))] for each in stated[:_MOST_LICENSES]]
        if len(stated) > _MOST_LICENSES:
            rows.append([f"and {len(stated) - _MOST_LICENSES} more", "…"])
        yield table(["what", "license"], rows)
    if terms.notes:
        yield "\n".join(f"- {plain(note)}" for note in terms.notes)
    if terms.despite is not None:
        yield "Published by decision of its publisher although a license of its inputs may stand against it:"
        yield "\n".join(f"- {plain(each)}" for each in terms.conflicts)
        yield f"The reason given: {plain(terms.despite)}"


def _serving(release: Release, repo: str) -> Iterator[str]:
    """How vLLM serves it, where it can: whether it serves the base model is not known here, only that some it does not."""
    version, serving = release.version, release.serving
    if release.target == "model" or serving is None or release.task_type not in {None, "CAUSAL_LM"}:
        return
    if serving.rank is None:
        yield (
            f"vLLM does not serve it as it is: {plain(serving.reason)}. "
            "With it in a registry, this writes a folder that vLLM loads, where that can be done:"
        )
        name = version.name.rpartition("/")[2]
        yield block("sh", [f"registry checkout {shell(name)} {shell(f'{name}-vllm')} --for vllm"])
        return
    base = _base_id(version) or _NO_BASE
    revision = version.base_model.revision
    pinned = f" --revision {shell(revision)}" if revision and one_line(revision) else ""
    name = shell(f"{version.name.rpartition('/')[2]}={repo}")
    yield "Where vLLM serves the base model:"
    served = f"vllm serve {shell(base)}{pinned} --enable-lora --max-lora-rank {serving.rank}"
    yield block("sh", [f"{served} --lora-modules {name}"])


def _verifying(repo: str) -> str:
    text = "Whether this repo holds what its provenance says is seen without downloading any weights:"
    command = f"registry verify {shell(f'hf://{repo}')}"
    return f"{text}\n\n{block('sh', [command])}"


def _what(release: Release) -> str:
    version, inputs = release.version, _inputs(release)
    base = (
        "a base model that is not on the Hub" if _base_id(version) is None else code(str(version.base_model))
    )
    kind = plain(_KINDS.get(version.kind, version.kind))
    if release.target == "model":
        text = f"{base} with the {kind} adapter {code(version.ref)} merged into its weights."
        text = text[0].upper() + text[1:]
    else:
        text = f"{'An' if kind[0] in 'AEIOU' else 'A'} {kind} adapter for {base}."
    if version.recipe is not None:
        several = f"{len(inputs)} adapters" if len(inputs) > 1 else "another adapter"
        text += f" The adapter was composed from {several} by weight arithmetic, without training."
    return text


def _facts(release: Release) -> str:
    version = release.version
    of = "" if release.target == "adapter" else "adapter's "  # nothing of it is the model's own
    facts = [
        ("version" if not of else "adapter", code(version.ref)),
        (f"{of}content", code(version.digest)),
        ("task", plain(version.task) if version.task else None),
        (f"{of}modules", f"{version.modules}"),
        (f"{of}rank", None if version.rank is None else f"{version.rank}"),
        (f"{of}parameters", f"{version.parameters:,}"),
        (f"{of}dtype", code(version.dtype)),
    ]
    return "\n".join(f"- {name}: {value}" for name, value in facts if value is not None)


def _origin(origin: Origin) -> list[str]:
    parent = origin.parent
    where = "–"
    if origin.repo is not None and origin.commit is not None:
        where = code(f"{origin.repo}@{origin.commit[:12]}")
        if origin.url is not None:
            where = f"[{where}](<{_address(origin.url)}>)"
    coefficient = "declared" if parent.relation == "declared" else code(parent.coefficient or "…")
    return [code(parent.ref), coefficient, code(parent.digest), where]


def _address(url: str) -> str:
    """A recorded address that cannot end the link it stands in."""
    return "".join(c for c in one_line(url) if c not in " <>\\|`\"'")


def _evaluation(each: Evaluation) -> list[str]:
    return [plain(each.dataset), plain(each.split or "–"), plain(each.metric), _number(each.value)]


def _diagram(release: Release) -> Iterator[str]:
    nodes = release.lineage.nodes[:_LARGEST_DIAGRAM]
    ids = {node.ref: f"v{place}" for place, node in enumerate(nodes)}
    yield "graph BT"
    for node in nodes:
        yield f"    {ids[node.ref]}[{mermaid(_label(node))}]"
    for edge in release.lineage.edges:
        if edge.child in ids and edge.parent in ids:
            label = edge.coefficient or edge.relation
            yield f"    {ids[edge.parent]} -->|{mermaid(label)}| {ids[edge.child]}"
    if len(nodes) < len(release.lineage.nodes):
        yield f"    more[{mermaid(f'and {len(release.lineage.nodes) - len(nodes)} more')}]"


def _label(node: LineageNode) -> str:
    return f"{node.ref} {node.digest.removeprefix('sha256:')[:12]}"


def _loading(release: Release, repo: str) -> Iterator[str]:
    version = release.version
    name = _CLASSES.get(release.task_type or "", "AutoModel")
    if release.target == "model":
        yield from (
            f"from transformers import {name}",
            "",
            f"model = {name}.from_pretrained({json.dumps(repo)})",
        )
        return
    base = json.dumps(_base_id(version) or _NO_BASE)
    revision = version.base_model.revision
    pinned = f", revision={json.dumps(one_line(revision))}" if revision else ""
    yield "from peft import PeftModel"
    yield f"from transformers import {name}"
    yield ""
    yield f"base = {name}.from_pretrained({base}{pinned})"
    yield f"model = PeftModel.from_pretrained(base, {json.dumps(repo)})"


def _rebuilding(release: Release, repo: str) -> Iterator[str]:
    version = release.version
    name = version.name.rpartition("/")[2]
    if version.recipe is None and release.target == "adapter":
        yield f"Add it to a registry; its content has to be {code(version.digest)}:"
        yield block(
            "sh",
            [
                f"registry add {shell(f'hf://{repo}')} {shell(name)}{_on(version, '--base')}",
                f"registry verify {shell(name)}",
            ],
        )
        return
    yield "With the adapters in a registry, the same recipe gives the same content:"
    lines = list(_fetching(release))
    if version.recipe is None:
        lines.append(f"# add {version.ref}, with the content {version.digest}, as {name}")
    else:
        text = shell(_by_digest(release))
        lines.append(f"registry compose {shell(name)} {text}{_options(release)}")
    lines.append(f"registry verify {shell(name)} --rebuild")
    if release.target == "model":
        out = shell(f"{name}-model")
        lines.append(
            f"registry materialize {shell(name)} --as model --out {out}{_on(version, '--base-path')}"
        )
    yield block("sh", lines)
    yield f"The adapter's content has to be {code(version.digest)}."


def _options(release: Release) -> str:
    recipe = release.recipe or {}
    said = {"--dtype": recipe.get("dtype"), "--seed": recipe.get("seed")}
    return "".join(f" {option} {shell(str(value))}" for option, value in said.items() if value)


def _fetching(release: Release) -> Iterator[str]:
    for origin in _inputs(release):
        name = origin.parent.ref.partition("@")[0].rpartition("/")[2]
        if origin.repo is None:
            yield f"# add {origin.parent.ref}, with the content {origin.parent.digest}, as {name}"
        else:
            place = shell(f"hf://{origin.repo}@{origin.commit}")
            yield f"registry add {place} {shell(name)}{_on(release.version, '--base')}"


def _on(version: Version, option: str) -> str:
    """The base model, which nothing else tells where it is not on the Hub."""
    return "" if _base_id(version) is not None else f" {option} {_NO_BASE}"


def _by_digest(release: Release) -> str:
    """The recipe as an expression of content digests, which mean the same in every registry."""
    if release.recipe is None:
        return ""
    terms = recipe.parse(dict(release.recipe)).expression.terms
    # A sum has no order, and a text that starts with a minus would look like an option.
    ordered = sorted(terms, key=lambda term: term.weight < 0)
    text = expression.render(_sum(ordered))
    return f"({text})" if text.startswith("-") else text


def _sum(terms: Sequence[recipe.Term]) -> expression.Node:
    parts = tuple(expression.Scaled(term.weight, _operand(term.operand)) for term in terms)
    return parts[0] if len(parts) == 1 else expression.Sum(parts, depth=0)


def _operand(operand: recipe.Input | recipe.Call) -> Reference | expression.Call:
    if isinstance(operand, recipe.Input):
        return Reference(digest=operand.digest)
    parameters = tuple((key, _typed(value)) for key, value in operand.parameters.items())
    arguments = tuple(_sum(argument.terms) for argument in operand.arguments)
    return expression.Call(operand.method, arguments, parameters, column=1, depth=0)


def _typed(value: Any) -> Any:
    """A parameter as it is typed: a recipe holds decimals as text."""
    return Decimal(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else value


def _inputs(release: Release) -> list[Origin]:
    return [origin for origin in release.origins if origin.parent.relation == "input"]


def _base_id(version: Version) -> str | None:
    repo = version.base_model.repo
    return repo if repo and hub.is_repo_id(repo) else None
