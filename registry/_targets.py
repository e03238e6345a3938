"""Which stored tensor an adapted module changes, how it is oriented, and what is tied to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry._shards import FLOATS, StoredTensor
from registry.errors import Incompatible, Refused
from registry.forms import OF_PARAMETERS

if TYPE_CHECKING:
    from registry.kinds import Module

# The layers of these families that keep their weight as (in, out); everything else in them is a Linear.
CONV1D_FAMILIES = {"gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp", "clvp_decoder"}
_CONV1D_LAYERS = {"c_attn", "q_attn", "c_proj", "c_fc"}

_HEAD_ENDINGS = ("ForCausalLM", "LMHeadModel", "DoubleHeadsModel", "ForMaskedLM", "ForPreTraining")
_HEAD_ENDINGS_ALSO = ("ForConditionalGeneration", "WithLMHead", "ForImageTextToText")
_HEADLESS = (
    "Model",
    "Encoder",
    "Classification",
    "QuestionAnswering",
    "MultipleChoice",
    "ForSentenceEmbedding",
)
_HEAD_NAMES = {
    "lm_head",
    "embed_out",
    "output",
    "output_projection",
    "proj_out",
    "decoder",
    "vocab_projector",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A module's weight.

    ``tensor`` is its name in the checkpoint; it is computed from ``source``, another tensor only where the
    module is an output head that is tied to the embedding and not stored. ``transposed``: kept as (in, out).
    ``keeps_tie``: an embedding that stays tied to its head, since both of them are meant. ``rows``: it is for some
    rows of it.
    """

    tensor: str
    source: str
    transposed: bool
    keeps_tie: bool = False
    rows: bool = False


@dataclass(frozen=True, slots=True)
class Tie:
    """An embedding and an output head that share their weight; both are tensor names.

    ``copies`` maps tensors to write, when the two are separated, to the stored ones they are tied to.
    ``prefix`` is what the body's tensors must then be prefixed with: a checkpoint that holds a body alone may
    leave it out, one with a head beside it may not.
    """

    embedding: str
    head: str
    copies: Mapping[str, str]
    prefix: str


@dataclass(frozen=True)
class _Pair:
    embedding: str
    head: str
    model_types: frozenset[str] = frozenset()
    biases: tuple[tuple[str, str], ...] = ()


_PAIRS = (
    _Pair("model.embed_tokens", "lm_head"),
    _Pair("model.language_model.embed_tokens", "lm_head"),
    _Pair("language_model.model.embed_tokens", "language_model.lm_head"),
    _Pair("transformer.wte", "lm_head"),
    _Pair("transformer.word_embeddings", "lm_head"),
    _Pair("transformer.tokens_embed", "lm_head", frozenset({"openai-gpt"})),
    _Pair("gpt_neox.embed_in", "embed_out"),
    _Pair("model.decoder.embed_tokens", "lm_head", frozenset({"opt"})),
    _Pair("backbone.embeddings", "lm_head", frozenset({"mamba", "mamba2", "falcon_mamba"})),
    _Pair(
        "bert.embeddings.word_embeddings",
        "cls.predictions.decoder",
        frozenset({"bert"}),
        (("cls.predictions.decoder.bias", "cls.predictions.bias"),),
    ),
    _Pair(
        "roberta.embeddings.word_embeddings",
        "lm_head.decoder",
        frozenset({"roberta", "xlm-roberta", "camembert"}),
        (("lm_head.decoder.bias", "lm_head.bias"),),
    ),
    _Pair("distilbert.embeddings.word_embeddings", "vocab_projector", frozenset({"distilbert"})),
)


def resolve(
    tensors: Mapping[str, StoredTensor],
    config: Mapping[str, Any],
    modules: Mapping[str, Module],
    fan_in_fan_out: bool | None,
    *,
    new_heads: bool = False,
) -> dict[str, Target]:
    """See :meth:`registry.checkpoint.BaseCheckpoint.resolve`."""
    tie = find_tie(tensors, config)
    rename = _rule(tensors, tie, config, modules, new_heads=new_heads)
    targets = {}
    for name, module in modules.items():
        tensor = rename(module.target)
        source = tensor if tensor in tensors or tie is None else tie.copies.get(tensor, tensor)
        if source not in tensors:
            _refuse_unknown_head(name, tensor, config)
            continue  # a new head
        if tie is not None and tensor != tie.head:
            tensor = source  # a bias that is stored once, under the other of its names
        stored = tensors[source]
        if stored.dtype not in FLOATS:
            raise Refused(
                f"base tensor {source!r}, which adapter module {name!r} changes, is quantized ({stored.dtype})",
                hint="merge into the model's checkpoint in bfloat16, float16 or float32",
            )
        transposed = _is_transposed(module, name, stored, config, fan_in_fan_out)
        keeps_tie = module.form in {"tokens", "difference"} and not (tie and tensor == tie.head)
        targets[name] = Target(tensor, source, transposed, keeps_tie, rows=module.form == "tokens")
        if tie is None and (
            module.form == "embedding" or (module.form in {"whole", "tokens"} and not new_heads)
        ):
            _refuse_unknown_tie(name, stored, config, embedding=module.form == "embedding")
    if not new_heads:
        _refuse_shared(targets)
    return targets


def find_tie(tensors: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> Tie | None:
    """The embedding and head that this checkpoint shares, as far as their names are known.

    None where they are separate by configuration, where the model has no head, or where nothing is known.
    """
    if _tie_flag(config) is False:
        return None
    for pair in _PAIRS:
        if pair.model_types and config.get("model_type") not in pair.model_types:
            continue
        prefix, _, rest = pair.embedding.partition(".")
        embedding, head = f"{pair.embedding}.weight", f"{pair.head}.weight"
        bare = embedding not in tensors
        if bare:
            embedding = f"{rest}.weight"
        if embedding not in tensors or not (head in tensors or _has_head(config)):
            continue
        if head in tensors and tensors[head].shape != tensors[embedding].shape:
            continue
        copies = {} if head in tensors else {head: embedding}
        copies |= {new: old for new, old in pair.biases if new not in tensors and old in tensors}
        return Tie(embedding, head, copies, f"{prefix}." if bare else "")
    return None


def is_conv1d(module: str, config: Mapping[str, Any]) -> bool:
    """Whether a layer of this architecture keeps its weight as (in, out)."""
    return config.get("model_type") in CONV1D_FAMILIES and module.rpartition(".")[2] in _CONV1D_LAYERS


def _tie_flag(config: Mapping[str, Any]) -> bool | None:
    for part in (config, config.get("text_config")):
        if isinstance(part, dict) and isinstance(part.get("tie_word_embeddings"), bool):
            return bool(part["tie_word_embeddings"])
    return None


def _has_head(config: Mapping[str, Any]) -> bool | None:
    """Whether the configured architecture has a language-model head; None where that cannot be told."""
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures or not isinstance(architectures[0], str):
        return None
    if architectures[0].endswith(_HEAD_ENDINGS + _HEAD_ENDINGS_ALSO):
        return True
    return False if architectures[0].endswith(_HEADLESS) else None


def _refuse_unknown_head(module: str, tensor: str, config: Mapping[str, Any]) -> None:
    """A parameter that is not stored may be one that is tied to another: only a new head counts from zero."""
    if tensor.split(".")[-2:-1] and tensor.split(".")[-2] in _HEAD_NAMES and _tie_flag(config) is not False:
        raise _unknown_tie(f"adapter module {module!r} is a head that the base does not store", config)


def _refuse_unknown_tie(
    module: str, stored: StoredTensor, config: Mapping[str, Any], *, embedding: bool
) -> None:
    text = config.get("text_config")
    vocabulary = config.get("vocab_size", text.get("vocab_size") if isinstance(text, dict) else None)
    if not embedding and not (isinstance(vocabulary, int) and len(stored.shape) == 2):
        return
    if isinstance(vocabulary, int) and stored.shape[0] < vocabulary:
        return  # positions, token types or an inner layer, which nothing is tied to
    if _tie_flag(config) is not False and _has_head(config) is not False:
        raise _unknown_tie(f"adapter module {module!r} changes the token embedding {stored.name!r}", config)


def _unknown_tie(what: str, config: Mapping[str, Any]) -> Refused:
    architectures = config.get("architectures") or "a model that names no architecture"
    return Refused(
        f"{what}, and how {architectures} ties it to the other end of the model is not known",
        hint="save the base with tie_word_embeddings=false and both tensors stored, and merge into that",
    )


def _rule(
    tensors: Mapping[str, StoredTensor],
    tie: Tie | None,
    config: Mapping[str, Any],
    modules: Mapping[str, Module],
    *,
    new_heads: bool,
) -> Callable[[str], str]:
    """The one renaming from the parameters' names to the checkpoint's, applied to all modules alike.

    A checkpoint may hold a model's body alone (``h.0…`` for ``transformer.h.0…``), or an adapter may have
    been trained on the body of what is stored as a whole.
    """

    def known(name: str) -> bool:
        return name in tensors or (tie is not None and name in {tie.head, *tie.copies})

    names = [m.target for m in modules.values() if not (new_heads and m.form == "whole")]
    if not names:  # nothing but parameters stored whole: those that are known decide
        names = [module.target for module in modules.values()]
        names = [name for name in names if known(name)] or names[:1]

    def hits(rule: Callable[[str], str]) -> int:
        return sum(known(rule(name)) for name in names)

    if hits(_unchanged) == len(names) or (new_heads and all(m.form == "whole" for m in modules.values())):
        return _unchanged
    rules = [_strip(component) for component in sorted({name.partition(".")[0] for name in names})]
    rules += [_add(component) for component in _components_before(tensors, names)]
    complete = [rule for rule in rules if hits(rule) == len(names)]
    if len(complete) == 1:
        return complete[0]
    if complete:
        first = names[0].removesuffix(".weight")
        both = " and ".join(repr(rule(first)) for rule in complete[:2])
        raise Incompatible(f"adapter module {first!r} could be {both} in the base model")
    raise _missing(max([_unchanged, *rules], key=hits), known, config, modules)


def _unchanged(name: str) -> str:
    return name


def _strip(component: str) -> Callable[[str], str]:
    return lambda name: name.removeprefix(f"{component}.")


def _add(component: str) -> Callable[[str], str]:
    return lambda name: f"{component}.{name}"


def _components_before(tensors: Iterable[str], names: Iterable[str]) -> list[str]:
    """Single components that, put before the first parameter's name, give a stored tensor."""
    ending = f".{next(iter(names))}"
    found = {name.removesuffix(ending) for name in tensors if name.endswith(ending)}
    return sorted(component for component in found if component and "." not in component)


def _missing(
    rule: Callable[[str], str],
    known: Callable[[str], bool],
    config: Mapping[str, Any],
    modules: Mapping[str, Module],
) -> Refused:
    name = next(name for name, module in modules.items() if not known(rule(module.target)))
    if config.get("quantization_config"):
        return Refused(
            f"adapter module {name!r} has no float weight in the base model, which is quantized",
            hint="merge into the model's checkpoint in bfloat16, float16 or float32",
        )
    if name.rpartition(".")[2] in _HEAD_NAMES and _tie_flag(config) is not False:
        return _unknown_tie(f"adapter module {name!r} is a head that the base does not store", config)
    if modules[name].form in {"whole", "offset"}:
        return Incompatible(
            f"the base model has no tensor {rule(modules[name].target)!r}, which the adapter changes",
            hint="a new head, or the bias of a layer without one, has no place in the base: use it as an adapter",
        )
    return Incompatible(
        f"adapter module {name!r}, of shape {modules[name].shape}, has no weight in the base model:"
        f" there is no tensor {rule(modules[name].target)!r}",
        hint="is this the model the adapter was trained on?",
    )


def _is_transposed(
    module: Module, name: str, stored: StoredTensor, config: Mapping[str, Any], flag: bool | None
) -> bool:
    straight, swapped = _fits(module, stored.shape, False), _fits(module, stored.shape, True)
    if module.groups > 1:
        raise Refused(
            f"adapter module {name!r} is LoRA on a grouped convolution, which sees the channels of all groups",
            hint="its change has no place in the base weight: use it as an adapter",
        )
    if config.get("model_type") in CONV1D_FAMILIES:
        transposed = module.form == "linear" and is_conv1d(name, config)
    elif straight and swapped:
        transposed = bool(flag)
    else:
        # PEFT itself corrects a flag that the layer contradicts, so the shape may overrule True. A vector's
        # one size proves too little to overrule a flag that is off or unknown.
        transposed = swapped and (flag is True or (flag is None and len(module.shape) == 2))
    if not (swapped if transposed else straight):
        raise Incompatible(
            f"adapter module {name!r} has shape {module.shape} ({module.form}),"
            f" but the base model's tensor {stored.name!r} is {stored.shape}",
            hint="is this the model the adapter was trained on?",
        )
    return transposed


def _fits(module: Module, shape: tuple[int, ...], transposed: bool) -> bool:
    """Whether a delta of this module can change a weight of ``shape``: (m, n) of LoRA or (d,) of (IA)³."""
    if module.form in OF_PARAMETERS:
        rows = max(module.rows, default=-1)  # those of token embeddings have to be there
        same = shape == module.kernel or (bool(module.rows) and shape[1:] == module.shape[1:])
        return not transposed and same and rows < shape[0]
    if len(module.shape) == 1:
        return _fits_rescaling(module, shape, transposed)
    if module.form == "conv":
        kernel_fits = not module.kernel or shape[2:] == module.kernel
        flat = (shape[0], math.prod(shape[1:])) if len(shape) > 2 else None
        return not transposed and kernel_fits and module.shape == flat
    if len(shape) != 2:
        return False
    if module.form == "embedding":
        return not transposed and shape == module.shape[::-1]
    return module.shape == (shape[::-1] if transposed else shape)


def _fits_rescaling(module: Module, shape: tuple[int, ...], transposed: bool) -> bool:
    """Whether a vector has an entry per input or output feature; with groups, a convolution stores fewer inputs."""
    if len(shape) != 2 + len(module.kernel) or (transposed and module.kernel):
        return False
    out_in = shape[1::-1] if transposed else shape[:2]
    return module.shape[0] == out_in[1 if module.feedforward else 0]


def _refuse_shared(targets: Mapping[str, Target]) -> None:
    owners: dict[str, str] = {}
    for name, target in targets.items():
        other = owners.setdefault(target.tensor, name)
        if other != name:
            raise Incompatible(
                f"adapter modules {other!r} and {name!r} both change base tensor {target.tensor!r}"
            )
