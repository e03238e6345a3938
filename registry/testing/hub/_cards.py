"""What the Hub reads from the front matter of README.md, and what it refuses there."""

import re
from collections.abc import Iterable
from typing import Any

import yaml

_FRONT_MATTER = re.compile(r"\s*---[ \t]*\r?\n(.*?)\r?\n?---[ \t]*(\r?\n|$)", re.DOTALL)
_HUB_ID = re.compile(r"(?!.*(--|\.\.))(\w([\w.-]{0,94}\w)?/)?\w([\w.-]{0,94}\w)?(?<!\.git)", re.ASCII)
_TEXT_OR_TEXTS = ("license", "language", "datasets", "tags", "base_model")
_TEXT = ("library_name", "pipeline_tag", "base_model_relation")
_RELATIONS = ("adapter", "merge", "quantized", "finetune")


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
    return [] if _FRONT_MATTER.match(readme) else ["empty or missing yaml metadata in repo card"]


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
    sentences = [f'"{key}" must be a string' for key in _TEXT if not isinstance(found.get(key, ""), str)]
    sentences += [
        f'"{key}" must be a string or a list of strings'
        for key in _TEXT_OR_TEXTS
        if not all(isinstance(value, str) for value in _several(found.get(key)))
    ]
    sentences += [
        f'"base_model" with value "{value}" is not valid. Use a model id from https://hf.co/models.'
        for value in _texts(found.get("base_model"))
        if not _HUB_ID.fullmatch(value)
    ]
    if found.get("base_model_relation", "adapter") not in _RELATIONS:
        sentences.append(f'"base_model_relation" must be one of {", ".join(_RELATIONS)}')
    return sentences


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
