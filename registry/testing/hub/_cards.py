"""What the Hub reads from the front matter of README.md, and what it refuses there.

Sources: hub-docs: modelcard.md and repositories-licenses.md, and the sentences of the Hub's own refusals.
"""

import math
import re
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

import yaml

_FRONT_MATTER = re.compile(r"\s*---[ \t]*\r?\n(.*?)\r?\n?---[ \t]*(\r?\n|$)", re.DOTALL)
_HUB_ID = re.compile(r"(?!.*(--|\.\.))(\w([\w.-]{0,94}\w)?/)?\w([\w.-]{0,94}\w)?(?<!\.git)", re.ASCII)
_TEXT_OR_TEXTS = ("license", "language", "datasets", "tags", "base_model")
_TEXT = ("library_name", "pipeline_tag", "base_model_relation")
_RELATIONS = ("adapter", "merge", "quantized", "finetune")
_LANGUAGE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LICENSES = frozenset(
    [
        "apache-2.0",
        "mit",
        "openrail",
        "bigscience-openrail-m",
        "creativeml-openrail-m",
        "bigscience-bloom-rail-1.0",
        "bigcode-openrail-m",
        "afl-3.0",
        "artistic-2.0",
        "bsl-1.0",
        "bsd",
        "bsd-2-clause",
        "bsd-3-clause",
        "bsd-3-clause-clear",
        "c-uda",
        "cc",
        "cc0-1.0",
        "cc-by-2.0",
        "cc-by-2.5",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
        "cc-by-nc-2.0",
        "cc-by-nc-3.0",
        "cc-by-nc-4.0",
        "cc-by-nd-4.0",
        "cc-by-nc-nd-3.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-2.0",
        "cc-by-nc-sa-3.0",
        "cc-by-nc-sa-4.0",
        "cdla-sharing-1.0",
        "cdla-permissive-1.0",
        "cdla-permissive-2.0",
        "wtfpl",
        "ecl-2.0",
        "epl-1.0",
        "epl-2.0",
        "etalab-2.0",
        "eupl-1.1",
        "eupl-1.2",
        "agpl-3.0",
        "gfdl",
        "gpl",
        "gpl-2.0",
        "gpl-3.0",
        "lgpl",
        "lgpl-2.1",
        "lgpl-3.0",
        "isc",
        "h-research",
        "intel-research",
        "lppl-1.3c",
        "ms-pl",
        "apple-ascl",
        "apple-amlr",
        "mpl-2.0",
        "odc-by",
        "odbl",
        "openmdw-1.0",
        "openrail++",
        "osl-3.0",
        "postgresql",
        "ofl-1.1",
        "ncsa",
        "unlicense",
        "zlib",
        "pddl",
        "lgpl-lr",
        "deepfloyd-if-license",
        "fair-noncommercial-research-license",
        "llama2",
        "llama3",
        "llama3.1",
        "llama3.2",
        "llama3.3",
        "llama4",
        "grok2-community",
        "gemma",
        "unknown",
        "other",
    ]
)
"""As a refusal of the Hub listed them in May 2026."""
_TASKS = frozenset(
    [
        "any-to-any",
        "audio-classification",
        "audio-text-to-text",
        "audio-to-audio",
        "automatic-speech-recognition",
        "depth-estimation",
        "document-question-answering",
        "feature-extraction",
        "fill-mask",
        "graph-ml",
        "image-classification",
        "image-feature-extraction",
        "image-segmentation",
        "image-text-to-image",
        "image-text-to-text",
        "image-text-to-video",
        "image-to-3d",
        "image-to-image",
        "image-to-text",
        "image-to-video",
        "keypoint-detection",
        "mask-generation",
        "multiple-choice",
        "object-detection",
        "other",
        "question-answering",
        "reinforcement-learning",
        "robotics",
        "sentence-similarity",
        "summarization",
        "table-question-answering",
        "table-to-text",
        "tabular-classification",
        "tabular-regression",
        "tabular-to-text",
        "text-classification",
        "text-generation",
        "text-ranking",
        "text-retrieval",
        "text-to-3d",
        "text-to-audio",
        "text-to-image",
        "text-to-speech",
        "text-to-video",
        "text2text-generation",
        "time-series-forecasting",
        "token-classification",
        "translation",
        "unconditional-image-generation",
        "video-classification",
        "video-text-to-text",
        "video-to-video",
        "visual-document-retrieval",
        "visual-question-answering",
        "voice-activity-detection",
        "zero-shot-classification",
        "zero-shot-image-classification",
        "zero-shot-object-detection",
    ]
)


def metadata(readme: str) -> dict[str, Any]:
    """The front matter of a card; empty if there is none, or none that can be read."""
    match = _FRONT_MATTER.match(readme)
    if match is None:
        return {}
    try:
        found = yaml.safe_load(match[1])
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def warnings(readme: str) -> list[str]:
    """What the Hub says of a card that it takes."""
    if not _FRONT_MATTER.match(readme):
        return ["empty or missing yaml metadata in repo card"]
    card = metadata(readme)
    found = []
    task = card.get("pipeline_tag")
    if isinstance(task, str) and task not in _TASKS:
        found.append(f'The pipeline tag "{task}" is not in the official list of tasks')
    if "other" in _texts(card.get("license")) and not card.get("license_name"):
        found.append('"license_name" is missing: "license" is "other"')
    return found


def problems(readme: str) -> list[str]:
    """Why the Hub would refuse this card, one sentence each."""
    match = _FRONT_MATTER.match(readme)
    if match is None:
        return []
    try:
        found = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        return [f"bad yaml: {error}"]
    if not isinstance(found, dict):
        return [] if found is None else ["the metadata must be a mapping"]
    return [*_of_types(found), *_of_values(found), *_of_results(found.get("model-index"))]


def _of_types(card: dict[str, Any]) -> Iterator[str]:
    for key in (*_TEXT, "license_name", "license_link"):
        if not isinstance(card.get(key, ""), str):
            yield f'"{key}" must be a string'
    for key in _TEXT_OR_TEXTS:
        if not all(isinstance(value, str) for value in _several(card.get(key))):
            yield f'"{key}" must be a string or a list of strings'
    if not isinstance(card.get("widget", []), list):
        yield '"widget" must be an array'


def _of_values(card: dict[str, Any]) -> Iterator[str]:
    for value in _texts(card.get("license")):
        if value not in _LICENSES:
            yield f'"license" must be one of [{", ".join(sorted(_LICENSES))}]'
    yield from _of_languages(card)
    for index, value in enumerate(_texts(card.get("datasets"))):
        if not _HUB_ID.fullmatch(value):
            yield (
                f'"datasets[{index}]" with value "{value}" is not valid. If possible, use a dataset id from '
                "https://hf.co/datasets."
            )
    for value in _texts(card.get("base_model")):
        if not _HUB_ID.fullmatch(value):
            yield f'"base_model" with value "{value}" is not valid. Use a model id from https://hf.co/models.'
    if card.get("base_model_relation", "adapter") not in _RELATIONS:
        yield f'"base_model_relation" must be one of {", ".join(_RELATIONS)}'


def _of_languages(card: dict[str, Any]) -> Iterator[str]:
    for index, value in enumerate(_texts(card.get("language"))):
        at = f"language[{index}]" if isinstance(card["language"], list) else "language"
        if value != value.lower():
            yield f'"{at}" must only contain lowercase characters'
        elif not _LANGUAGE.fullmatch(value):
            yield f'"{at}" with value "{value}" is not valid. It must be an ISO 639-1, 639-2 or 639-3 code'


_REQUIRED = {"task": {"type"}, "dataset": {"type", "name"}}
_STRINGS = {"task": {"type", "name"}, "dataset": {"type", "name", "config", "split", "revision"}}


def _of_results(index: object) -> Iterator[str]:
    """The schema of evaluation results: hub-docs: modelcard.md."""
    if index is None:
        return
    if not isinstance(index, list):
        yield '"model-index" must be an array'
        return
    for number, model in enumerate(index):
        at = f"model-index[{number}]"
        if not isinstance(model, dict) or not isinstance(model.get("name"), str) or not model["name"]:
            yield f'"{at}.name" is required'
        results = model.get("results") if isinstance(model, dict) else None
        if not isinstance(results, list):
            yield f'"{at}.results" must be an array'
            continue
        for place, result in enumerate(results):
            yield from _of_result(f"{at}.results[{place}]", result)


def _of_result(at: str, result: object) -> Iterator[str]:
    if not isinstance(result, dict):
        yield f'"{at}" must be of type object'
        return
    for part, required in _REQUIRED.items():
        if not isinstance(held := result.get(part), dict):
            yield f'"{at}.{part}" is required'
            continue
        for key in sorted(_STRINGS[part]):
            if key in required and not held.get(key):
                yield f'"{at}.{part}.{key}" is required'
            elif not isinstance(held.get(key, ""), str):
                yield f'"{at}.{part}.{key}" must be a string'
    yield from _of_metrics(f"{at}.metrics", result.get("metrics"))


def _of_metrics(at: str, metrics: object) -> Iterator[str]:
    if not isinstance(metrics, list) or not metrics:
        yield f'"{at}" is required'
        return
    for place, metric in enumerate(metrics):
        here = f"{at}[{place}]"
        if not isinstance(metric, dict) or not isinstance(metric.get("type"), str) or not metric["type"]:
            yield f'"{here}.type" is required'
        elif not _is_value(metric.get("value")):
            yield f'"{here}.value" is required'


def _is_value(value: object) -> bool:
    """What JSON can say: YAML's dates, NaN and infinities cannot be sent on."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is not None and not isinstance(value, date)


def base_models(card: dict[str, Any], paths: Iterable[str]) -> tuple[str, list[str]]:
    """How a model relates to its base models, and which those are: written in the card, or inferred."""
    models = _texts(card.get("base_model"))
    if relation := card.get("base_model_relation"):
        return relation, models
    if card.get("library_name") == "peft" or "adapter_config.json" in paths:
        return "adapter", models
    return ("merge" if len(models) > 1 else "finetune"), models


def tags(card: dict[str, Any], paths: Iterable[str]) -> list[str]:
    """The tags that a model is found by."""
    relation, models = base_models(card, paths)
    found = [card.get("library_name"), card.get("pipeline_tag"), *_texts(card.get("tags"))]
    if any(path.endswith(".safetensors") for path in paths):
        found.append("safetensors")
    found += _texts(card.get("language"))
    for model in models:
        found += [f"base_model:{model}", f"base_model:{relation}:{model}"]
    found += [f"dataset:{dataset}" for dataset in _texts(card.get("datasets"))]
    found += [f"license:{license_}" for license_ in _texts(card.get("license"))]
    return list(dict.fromkeys(tag for tag in found if tag))


def _several(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _texts(value: object) -> list[str]:
    return [each for each in _several(value) if isinstance(each, str)]
