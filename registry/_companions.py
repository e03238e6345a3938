"""What goes beside the weights of a merged model: its config, its index, and the base's small files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from registry import digest
from registry._shards import FileRecord, hash_files, read_chunks, storage, sync_folder, write_file
from registry.checkpoint import CONFIG, MAX_CONFIG
from registry.errors import Refused

MAX_FILE = 128 << 20

_SUFFIXES = {".json", ".txt", ".model", ".jinja", ".tiktoken", ".py"}
_LEGAL = ("license", "notice")
_LEGAL_SUFFIXES = {"", ".txt", ".md"}
# What training leaves behind, and what would make the result be taken for something else.
_NEVER = {CONFIG, "adapter_config.json", "trainer_state.json", "requirements.txt"}
_NEVER_STARTS = ("readme", "optimizer", "scheduler", "rng_state", "training_args")
_NEVER_ENDINGS = (".index.json", "_results.json")
_NEVER_FOLDERS = (
    "checkpoint-",
    "global_step",
    "runs",
    "wandb",
    "onnx",
    "openvino",
    "original",
    "__pycache__",
)


def copy_companions(folder: Path, out: Path) -> tuple[dict[str, FileRecord], tuple[str, ...]]:
    """Copy tokenizer, templates, generation config, code and licences, one folder deep.

    Returns what was written, by POSIX relative path, and the paths left out for their size. Which files go
    along is an allow-list by name; symbolic links are followed to files and written as files.
    """
    written: dict[str, FileRecord] = {}
    too_large = []
    for name, path in _candidates(folder):
        with storage("read", path):
            size = path.stat().st_size
        if size > MAX_FILE:
            too_large.append(name)
            continue
        target = out / name
        with storage("create", target):
            target.parent.mkdir(exist_ok=True)
        written[name] = write_file(target, read_chunks(path), size)
    for parent in sorted({(out / name).parent for name in written} - {out}):
        sync_folder(parent)
    return written, tuple(too_large)


def companions_digest(folder: Path) -> str:
    """What the files that go along say: equal bases with equal companions give equal merged models.

    Raises ``Refused`` for a link that leaves the folder.
    """
    names = {name: path for name, path in _candidates(folder) if path.stat().st_size <= MAX_FILE}
    with storage("read", folder):
        found = hash_files([folder / CONFIG, *names.values()])
    return digest.of_json({path.relative_to(folder).as_posix(): value for path, value in found.items()})


def write_json(path: Path, value: Mapping[str, Any]) -> FileRecord:
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return write_file(path, [text.encode()])


def merged_config(config: Mapping[str, Any], *, dtype: str | None, untied: bool) -> dict[str, Any]:
    """The base's config for the result: its dtype where that changed, and no tie where one was cut."""
    result: dict[str, Any] = deepcopy(dict(config))
    text = result.get("text_config")
    parts = [result, text] if isinstance(text, dict) else [result]
    if untied:
        for part in parts:
            part["tie_word_embeddings"] = False
    if dtype is not None:
        if "dtype" not in result:
            result["torch_dtype"] = dtype  # the older name, which every release of transformers reads
        for part in parts:
            for key in {"dtype", "torch_dtype"} & part.keys():
                part[key] = dtype
    return result


def _candidates(folder: Path) -> Iterator[tuple[str, Path]]:
    modules = _module_folders(folder)
    for path in _listed(folder):
        if path.is_file():
            if _is_companion(path.name):
                yield path.name, _inside(path, folder)
        elif not path.is_symlink() and not path.name.lower().startswith(_NEVER_FOLDERS):
            for inner in _listed(path) if path.is_dir() else ():
                # A sentence-transformers module has its own config and, where it is a layer, its own weights.
                own = inner.name == CONFIG or (path.name in modules and inner.name == "model.safetensors")
                if inner.is_file() and (own or _is_companion(inner.name)):
                    yield f"{path.name}/{inner.name}", _inside(inner, folder)


def _inside(path: Path, folder: Path) -> Path:
    """The path, unless it is a link to somewhere else: what is there was not meant to be published.

    The snapshots of a Hub cache link into its ``blobs``, which is fine.
    """
    home = folder.resolve()
    cached = home.parent.parent  # …/models--owner--name/snapshots/commit
    allowed = [home]
    if cached.name.startswith("models--"):
        allowed += [cached / "blobs", cached.parent / "blobs"]
    if not any(path.resolve().is_relative_to(place) for place in allowed):
        raise Refused(
            f"{path} is a link that leaves the base's folder", hint="replace it by the file, or remove it"
        )
    return path


def _listed(folder: Path) -> list[Path]:
    with storage("read", folder):
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _is_companion(name: str) -> bool:
    lower = name.lower()
    suffix = Path(lower).suffix
    if lower in _NEVER or lower.startswith(_NEVER_STARTS) or lower.endswith(_NEVER_ENDINGS):
        return False
    return suffix in _SUFFIXES or (lower.startswith(_LEGAL) and suffix in _LEGAL_SUFFIXES)


def _module_folders(folder: Path) -> set[str]:
    """The folders that sentence-transformers' ``modules.json`` names."""
    path = folder / "modules.json"
    if not path.is_file() or path.stat().st_size > MAX_CONFIG:
        return set()
    with storage("read", path):
        raw = path.read_bytes()
    try:
        modules = json.loads(raw)
    except (ValueError, RecursionError):
        return set()
    if not isinstance(modules, list):
        return set()
    return {
        module["path"]
        for module in modules
        if isinstance(module, dict) and isinstance(module.get("path"), str)
    }
