"""Read and write PEFT adapter folders. Everything read is hostile; nothing here does maths.

Reading needs no torch: headers, digests and the search for NaN work on the file's bytes. Tensors are mapped and
handed out module by module.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry import _safetensors, digest, kinds
from registry._safetensors import Entry, Written
from registry.errors import NotFound, Refused, StorageFailure
from registry.forms import OF_PARAMETERS
from registry.results import BaseModelIdentity

if TYPE_CHECKING:
    from torch import Tensor

    from registry._values import BaseValues
    from registry.deltas import Delta
    from registry.evaluate import Evaluated
    from registry.kinds import Kind, Layout, Module

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
CONFIG_LIMIT = 2**20
HEADER_LIMIT = 25 * 2**20
PREFIX = "base_model.model."
DIGEST_FORMAT = 1

_AGAIN = "fetch or save the adapter again"
_INFIX = re.compile(
    r"\.(lora_[A-Za-z_]+|ia3_l|hada_\w+|lokr_\w+|vera_(?:lambda_[bd]|[AB])|modules_to_save)"
    r"(?:\.default)+(?=\.|$)"
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_ROLES = (".lora_embedding_A", ".lora_embedding_B")  # the most and the longest names a module has, about
_DTYPES = ("float64", "float32", "bfloat16", "float16")
# Beside the tensors, this decides what an adapter does: how it is loaded, and which way a weight is stored.
_SAID = ("fan_in_fan_out", "task_type")
_UNORDERED = frozenset({"target_modules", "exclude_modules", "feedforward_modules", "modules_to_save"})


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter on disk: its config, its layout, and its tensors on demand. It is an ``inputs.Reader``.

    ``entries`` holds the stored tensors by normalized name, ``names`` the names they have in the file. ``base`` is
    the base model, for modules that are differences from it. ``written`` has the hashes of an adapter that was just
    written; ``checked`` says that its bytes are those of an adapter that was added: sound, and without NaN. ``kept``,
    where it is given, keeps every tensor that was read mapped, for an adapter that is read again and again.
    """

    kind: str
    config: Mapping[str, Any]
    layout: Layout
    entries: Mapping[str, Entry]
    names: Mapping[str, str]
    files: Mapping[str, tuple[Path, int]]
    base: BaseValues | None = None
    written: Written | None = None
    checked: bool = False
    kept: dict[str, Tensor] | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files.values())

    @property
    def rank(self) -> int | None:
        """The largest rank of its modules, None for kinds without one."""
        return max((m.rank for m in self.layout.modules.values() if m.rank is not None), default=None)

    @property
    def parameters(self) -> int:
        return sum(math.prod(entry.shape) for entry in self.entries.values())

    @property
    def dtype(self) -> str:
        """The narrowest floating-point dtype that holds all its tensors."""
        found = {entry.dtype for entry in self.entries.values()} & set(_DTYPES)
        if found == {"bfloat16", "float16"}:
            return "float32"
        return next((dtype for dtype in _DTYPES if dtype in found), "float32")

    @property
    def base_model(self) -> BaseModelIdentity:
        """The base model as the config names it."""
        repo, revision = (self.config.get(key) or None for key in ("base_model_name_or_path", "revision"))
        return BaseModelIdentity(repo=repo, revision=revision)

    @cached_property
    def digest(self) -> str:
        """The content digest: tensors in canonical form and the config entries that decide what they compute.

        Independent of file order, names' prefixes, metadata and the order of keys. Raises ``Refused`` for NaN or
        infinity in a tensor.
        """
        layout = self.layout
        with self.bytes() as view:
            tensors = {
                name: {"dtype": entry.dtype, "shape": list(entry.shape), "sha256": self._sha256(view, name)}
                for name, entry in sorted(self.entries.items())
            }
        used = {key for module in layout.modules.values() for key in module.tensors.values()}
        content: dict[str, Any] = {
            "format": DIGEST_FORMAT,
            "kind": self.kind,
            "modules": [_module_digest(module, tensors) for module in layout.modules.values()],
        }
        if said := {key: self.config[key] for key in _SAID if self.config.get(key)}:
            content["config"] = _canonical(said)
        rest = {name: found for name, found in tensors.items() if name not in used}
        if rest or layout.semantics or layout.blockers:
            content["rest"] = {"tensors": rest, "config": _canonical(layout.semantics)}
        return digest.of_json(content)

    def delta(self, module: str) -> Delta:
        """One module's delta, on the CPU, in the stored dtype. Raises ``Refused`` for NaN or infinity."""
        found = self.layout.modules[module]
        if not self.checked:
            with self.bytes() as view:
                for name in found.tensors.values():
                    self._require_finite(view, name)
        tensors = {role: self.tensor(name) for role, name in found.tensors.items()}
        if found.based:
            if self.base is None:
                raise Refused(
                    f"module {module} needs the base model", hint="say where it is with --base-path DIR"
                )
            if (value := self.base.value(found)) is not None:
                tensors["base"] = value
        return kinds.rules(self._rules, found).delta(found, tensors)

    def on(self, base: BaseValues) -> StoredAdapter:
        """The same adapter with the base model at hand.

        An embedding that was saved along is compared with the base's and left out. Raises ``Refused`` where it
        differs: then it was trained, or resized.
        """
        modules = dict(self.layout.modules)
        for name, module in self.layout.modules.items():
            if module.form != "copy":
                continue
            value = base.value(module)
            if value is None or not value.equal(self.tensor(module.tensors["value"]).to(value.dtype)):
                raise Refused(
                    f"tensor {name} is not the base model's {module.target}",
                    hint="an embedding that was resized or trained beside its LoRA cannot be composed",
                )
            del modules[name]
        return replace(self, base=base, layout=replace(self.layout, modules=modules))

    def tensor(self, name: str) -> Tensor:
        """A stored tensor by its normalized name, mapped from the file for as long as it lives; not to be changed.

        Each has a mapping of its own: what was read through one that all share would count as memory to the end.
        """
        if self.kept is None:
            return self._mapped(name)
        if name not in self.kept:
            self.kept[name] = self._mapped(name)
        return self.kept[name]

    def _mapped(self, name: str) -> Tensor:
        import torch

        entry, (path, _) = self.entries[name], self.files[TENSORS]
        dtype: torch.dtype = getattr(torch, entry.dtype)
        if entry.begin == entry.end:
            return torch.empty(entry.shape, dtype=dtype)
        try:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except OSError as error:
            raise StorageFailure(f"{path} cannot be read: {error.strerror}") from error
        return torch.frombuffer(mapped, dtype=dtype, count=math.prod(entry.shape), offset=entry.begin).view(
            entry.shape
        )

    @cached_property
    def _rules(self) -> Kind:
        return kinds.load(self.kind)

    @contextmanager
    def bytes(self) -> Iterator[memoryview]:
        """The tensor file's bytes, mapped."""
        path, _ = self.files[TENSORS]
        try:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise StorageFailure(f"{path} cannot be read: {error.strerror}") from error
        with mapped, memoryview(mapped) as view:
            yield view

    def _sha256(self, view: memoryview, name: str) -> str:
        if self.written is not None:
            return self.written.tensors[self.names[name]]
        self._require_finite(view, name)
        entry = self.entries[name]
        return hashlib.sha256(view[entry.begin : entry.end]).hexdigest()

    def _require_finite(self, view: memoryview, name: str) -> None:
        entry = self.entries[name]
        if not _finite(view[entry.begin : entry.end], entry.dtype):
            raise Refused(
                f"tensor {name} holds NaN or infinity", hint="the training run diverged; use another one"
            )


def read(folder: Path) -> StoredAdapter:
    """The adapter in a PEFT folder, with every tensor read once (digest, NaN).

    Raises ``NotFound`` for a missing folder and ``Refused`` for anything that is not a sound adapter.
    """
    require(folder)
    adapter = open_files(folder / CONFIG, folder / TENSORS)
    adapter.digest  # noqa: B018 reads every tensor, refusing NaN and infinity
    return adapter


def require(folder: Path) -> None:
    """Raise unless a folder has the two files of an adapter; neither is opened."""
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}", hint="give a PEFT adapter folder or hf://owner/repo")
    if not (folder / CONFIG).exists():
        raise Refused(
            f"{folder} has no {CONFIG}; is it a PEFT adapter folder?",
            hint="registry add --recursive adds every adapter below a folder",
        )
    if not (folder / TENSORS).exists():
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
        if pickles:
            raise Refused(
                f"{folder} has its weights in {pickles[0][:64]!r}, a pickle, which can run code when it is opened",
                hint="if you trust it: load it with PeftModel.from_pretrained, then save_pretrained(..., "
                "safe_serialization=True), and add that folder",
            )
        raise Refused(f"{folder} has no {TENSORS}", hint="save it with safe_serialization=True")
    for name in (CONFIG, TENSORS):
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise Refused(
                f"{folder / name} is a link that leaves the folder", hint="copy the folder with cp -rL"
            )


def open_files(config: Path, tensors: Path) -> StoredAdapter:
    """The adapter in two files, whatever they are called. Only the config and the header are read.

    Raises ``Refused`` for anything malformed and for an unknown ``peft_type``.
    """
    try:
        files = {name: (path, path.stat().st_size) for name, path in ((CONFIG, config), (TENSORS, tensors))}
        settings = _read_config(config)
        stored = _safetensors.read_header(tensors, name=TENSORS, limit=HEADER_LIMIT, hint=_AGAIN)
    except OSError as error:
        raise StorageFailure(f"{error.filename or tensors} cannot be read: {error.strerror}") from error
    kind = kinds.load(settings["peft_type"])
    entries, names = _normalized(stored)
    infos = {name: kinds.TensorInfo(entry.shape, entry.dtype) for name, entry in entries.items()}
    layout = kind.layout(settings, infos)
    return StoredAdapter(kind.peft_type.lower(), settings, layout, entries, names, files)


def write(
    folder: Path,
    *,
    kind: str,
    modules: Iterable[Evaluated],
    names: Collection[str],
    dtype: str,
    base_model: BaseModelIdentity,
    inputs_config: Sequence[Mapping[str, Any]],
    base: BaseValues | None = None,
    like: StoredAdapter | None = None,
) -> StoredAdapter:
    """Write modules as a PEFT folder and fsync its files; equal arguments give equal bytes.

    ``modules``, whose names are ``names``, is consumed once, one module at a time, and each tensor rounded once to
    ``dtype``. The folder is made if need be; making it appear whole, and its entries durable, is the caller's part.
    ``base`` is the base model, for what is stored whole; ``like`` an adapter that was just written and that this one
    may have its shapes of, which saves time where it is so. Raises ``Refused`` where a value overflows ``dtype`` and
    ``StorageFailure`` where the disk is full.
    """
    rules = kinds.load(kinds.load(kind).writes_as or kind)
    described: dict[str, Module] = {}

    def tensors() -> Iterator[tuple[str, str, tuple[int, ...], memoryview]]:
        for item in modules:
            own = rules if item.place is None else kinds.rules(rules, item.place)
            whole = _base_of(item.place, base)
            described[item.module] = own.describe(item.module, item.delta)
            for key, tensor in sorted(own.tensors(item.module, item.delta, dtype, whole).items()):
                yield f"{PREFIX}{key}", dtype, tuple(tensor.shape), _raw(tensor, item.module, dtype)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        longest = (f"{PREFIX}{name}{role}" for name in names for role in _ROLES)
        with _one_thread():
            written = _safetensors.write(
                folder / TENSORS,
                tensors(),
                room=_safetensors.room_for(longest),
                like=like.written if like else None,
            )
        if not described:
            raise Refused("the result has no modules", hint="at least one input must adapt something")
        named = {"base_model_name_or_path": base_model.repo, "revision": base_model.revision}
        _write_config(folder / CONFIG, _sorted({**rules.config(described, inputs_config), **named}))
    except OSError as error:
        raise StorageFailure(
            f"{error.filename or folder} cannot be written: {error.strerror}",
            hint="make room or choose another disk",
        ) from error
    return replace(open_files(folder / CONFIG, folder / TENSORS), written=written)


def _base_of(place: Module | None, base: BaseValues | None) -> Tensor | None:
    """The base model's value of what is stored whole."""
    whole = place is not None and place.based and place.form in OF_PARAMETERS
    return base.value(place) if whole and place is not None and base is not None else None


def is_canonical(stored: StoredAdapter) -> bool:
    """Whether the file names every tensor as today's PEFT does."""
    return all(name == named(plain) for plain, name in stored.names.items())


def named(plain: str) -> str:
    """The name in a file: what VeRA's modules share lies beside the model."""
    return plain if plain.startswith("base_model.") else f"{PREFIX}{plain}"


def is_for(stored: StoredAdapter, base_model: BaseModelIdentity) -> bool:
    """Whether the config names this base model, repo and revision."""
    found = stored.base_model
    return (found.repo, found.revision) == (base_model.repo, base_model.revision)


def rewrite(stored: StoredAdapter, folder: Path, base_model: BaseModelIdentity) -> None:
    """Write an adapter again for ``base_model``, with the tensor names that today's PEFT expects.

    Its content stays the same; so does the order of the config's keys, which decides between patterns.
    """
    identity = {"base_model_name_or_path": base_model.repo, "revision": base_model.revision}
    with stored.bytes() as view:

        def tensors() -> Iterator[tuple[str, str, tuple[int, ...], bytes]]:
            for name, entry in sorted(stored.entries.items()):
                yield named(name), entry.dtype, entry.shape, bytes(view[entry.begin : entry.end])

        write_files(folder, tensors(), stored.entries, {**stored.config, **identity})


def write_files(
    folder: Path,
    tensors: Iterable[tuple[str, str, tuple[int, ...], bytes | memoryview]],
    names: Iterable[str],
    config: Mapping[str, Any],
) -> None:
    """Write the two files of an adapter as they are given, and fsync; ``names`` are those of all tensors, for room."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        room = _safetensors.room_for(named(name) for name in names)
        _safetensors.write(folder / TENSORS, tensors, room=room)
        _write_config(folder / CONFIG, config)
        _sync_folder(folder)
    except OSError as error:
        raise StorageFailure(f"{error.filename or folder} cannot be written: {error.strerror}") from error


def write_uniform(stored: StoredAdapter, folder: Path, base_model: BaseModelIdentity) -> None:
    """Write a LoRA with one rank and one scale for all modules, and no patterns: what servers read that know none.

    Factors of a smaller rank are filled up with zeros, which changes no delta. Raises ``Refused`` where the scales of
    modules differ.
    """
    import numpy as np

    scales = {module.scale for module in stored.layout.modules.values()}
    if len(scales) != 1:
        raise Refused(
            "the scales of its modules differ", hint="compose it: that writes the scales into the factors"
        )
    rank = stored.rank or 1
    alpha = scales.pop() * rank
    inner = {name: role for module in stored.layout.modules.values() for role, name in module.tensors.items()}
    wide: dict[str, tuple[int, ...]] = {}
    for name, entry in stored.entries.items():
        own = inner[name].endswith("_A")
        wide[name] = (rank, *entry.shape[1:]) if own else (*entry.shape[:-1], rank)
    with stored.bytes() as view:

        def tensors() -> Iterator[tuple[str, str, tuple[int, ...], bytes]]:
            for name, entry in sorted(stored.entries.items()):
                raw = np.frombuffer(view[entry.begin : entry.end], dtype=np.uint8)
                width = _safetensors.data_size(entry.dtype, entry.shape[1:]) or 1
                full = np.zeros(
                    (wide[name][0], _safetensors.data_size(entry.dtype, wide[name][1:])), np.uint8
                )
                full[: entry.shape[0], :width] = raw.reshape(entry.shape[0], width)
                yield named(name), entry.dtype, wide[name], full.tobytes()

        config = {
            **stored.config,
            "base_model_name_or_path": base_model.repo,
            "revision": base_model.revision,
            "r": rank,
            "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
            "use_rslora": False,
            "rank_pattern": {},
            "alpha_pattern": {},
        }
        write_files(folder, tensors(), stored.entries, config)


def _read_config(path: Path) -> dict[str, Any]:
    config = _safetensors.read_object(path, name=CONFIG, limit=CONFIG_LIMIT, hint=_AGAIN)
    if not isinstance(config.get("peft_type"), str):
        raise Refused(f"{CONFIG} names no peft_type", hint="is it a PEFT adapter folder?")
    for key in ("base_model_name_or_path", "revision"):
        value = config.get(key)
        if value is not None and not (isinstance(value, str) and len(value) <= 1024 and value.isprintable()):
            raise Refused(f"{CONFIG} has an unusable {key}")
    return config


def _normalized(stored: Mapping[str, Entry]) -> tuple[dict[str, Entry], dict[str, str]]:
    """Entries and file names by normalized name: no ``base_model.model.`` prefix, no ``.default`` infix."""
    entries: dict[str, Entry] = {}
    names: dict[str, str] = {}
    for name, entry in sorted(stored.items()):
        plain = _INFIX.sub(r".\1", name.removeprefix(PREFIX))
        if plain in entries:
            raise Refused(
                f"tensors {names[plain]} and {name} are one and the same after normalizing their names"
            )
        entries[plain], names[plain] = entry, name
    return entries, names


def _module_digest(module: Module, tensors: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "name": module.name,
        "form": module.form,
        "scale": repr(float(module.scale)),
        "kernel": list(module.kernel),
        "feedforward": module.feedforward,
        "tensors": {role: tensors[name] for role, name in module.tensors.items()},
    }
    return {**found, "rows": list(module.rows)} if module.rows else found


def _canonical(value: Any, key: str = "") -> Any:
    """``value`` without floats, and with the lists sorted whose order means nothing (PEFT holds them as sets)."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {name: _canonical(item, name) for name, item in value.items()}
    if isinstance(value, list):
        items = [_canonical(item) for item in value]
        return sorted(items, key=digest.canonical_json) if key in _UNORDERED else items
    return value


def _finite(data: memoryview, dtype: str) -> bool:
    """Whether no element has all exponent bits set. Types that are not floating point are always finite."""
    import numpy as np

    masks = {"float64": ("<u8", 0x7FF << 52), "float32": ("<u4", 0xFF << 23)}
    masks |= {"float16": ("<u2", 0x1F << 10), "bfloat16": ("<u2", 0xFF << 7)}
    if dtype not in masks:
        return True
    code, mask = masks[dtype]
    for part in _safetensors.chunks(data):
        words = np.frombuffer(part, dtype=code)
        if bool(np.any((words & words.dtype.type(mask)) == mask)):
            return False
    return True


@contextmanager
def _one_thread() -> Iterator[None]:
    """Rounding and checking are over sooner than threads are there, which on a busy machine wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _raw(tensor: Tensor, module: str, dtype: str) -> memoryview:
    """A tensor's bytes, little-endian. Raises ``Refused`` unless all its elements are finite."""
    import torch

    low, high = torch.aminmax(tensor)
    if not (math.isfinite(low.item()) and math.isfinite(high.item())):
        raise Refused(f"module {module} overflows {dtype}", hint="use a wider --dtype, such as float32")
    data = tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data
    return memoryview(data)


def _write_config(path: Path, config: Mapping[str, Any]) -> None:
    with path.open("wb") as file:
        file.write(json.dumps(config, indent=2).encode() + b"\n")
        _safetensors.sync(file)


def _sorted(value: Any) -> Any:
    return {key: _sorted(value[key]) for key in sorted(value)} if isinstance(value, dict) else value


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
