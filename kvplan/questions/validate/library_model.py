"""A real model of the library from a config: the class it names, small where that leaves the cache as it is, no weights."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from kvplan import architectures
from kvplan.domain.model import Model
from kvplan.errors import EnvironmentMissing, InputError, KvplanError
from kvplan.questions.validate.devices import import_torch

#: Keys that decide no cache tensor, and what they become. `_shrunk` looks whether kvplan agrees, key by key.
_SMALL: Final = {
    "vocab_size": 256, "intermediate_size": 64, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
    "ffn_hidden_size": 64, "n_inner": 64, "ffn_dim": 64, "decoder_ffn_dim": 64, "encoder_ffn_dim": 64, "d_ff": 64,
    "vocab_size_per_layer_input": 256, "moe_num_experts": 4, "n_routed_experts": 16, "num_experts": 16, "num_local_experts": 16,
    "expert_ffn_hidden_size": 32,
}  # fmt: skip
_LAYER_KEYS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
_DROPPED: Final = ("pad_token_id", "bos_token_id", "eos_token_id", "quantization_config", "auto_map")


def library() -> Any:
    """The transformers module.

    Raises:
        EnvironmentMissing: it is not installed, or does not start.
    """
    try:
        transformers: Any = import_module("transformers")
    except ImportError as problem:
        raise EnvironmentMissing("transformers is not installed", hint="pip install transformers") from problem
    transformers.logging.set_verbosity_error()
    return transformers


def with_layers(config: Mapping[str, Any], model: Model, layers: int) -> tuple[dict[str, Any], Model] | None:
    """The config and the model cut to their first `layers`, if the config can be cut; every list of that length is."""
    for section in ("", "text_config", "decoder"):
        inner = config if not section else config.get(section)
        if not isinstance(inner, Mapping):
            continue
        counts = {key: inner[key] for key in _LAYER_KEYS if isinstance(inner.get(key), int)}
        whole = min(counts.values(), default=0)
        if whole <= layers:
            continue
        cut = {key: value[:layers] if isinstance(value, list) and len(value) == whole else value for key, value in inner.items()}
        cut |= {key: value * layers // whole for key, value in counts.items()}
        candidate = cut if not section else {**config, section: cut}
        try:
            return candidate, architectures.read(candidate, name=model.name)
        except KvplanError:
            return None
    return None


def shrunk(config: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """The config with every key of `_SMALL` made small that leaves the layers as they are."""
    small = dict(config)
    for section in ("", "text_config", "decoder", "language_config", "llm_config", "ffn_config"):
        inner = small if not section else small.get(section)
        if not isinstance(inner, Mapping):
            continue
        for key, value in _SMALL.items():
            if not isinstance(inner.get(key), int):
                continue
            tried = {**inner, key: min(value, inner[key])}
            candidate = tried if not section else {**small, section: tried}
            try:
                same = architectures.read(candidate).layers == model.layers
            except KvplanError:
                same = False
            if same:
                small, inner = candidate, tried
    return small


def built(config: Mapping[str, Any], dtype: str) -> Any:
    """The class that the config names, else the one that the library's auto classes know, with no weights loaded.

    Raises:
        InputError: the library has no such class, or it refuses the config; its words are in the message.
    """
    transformers, torch = library(), import_torch()
    values = {key: _finite(value) for key, value in config.items() if key not in _DROPPED}
    try:
        made = type(transformers.AutoConfig.for_model(str(values.get("model_type", "")))).from_dict(values)
    except Exception as problem:  # the library's own refusal
        words = str(problem).strip().splitlines()[0][:200] if str(problem).strip() else type(problem).__name__
        raise InputError(f"the library refuses this config: {words}", hint="check the config") from problem
    for part in (made, made.get_text_config(decoder=True)):
        if hasattr(part, "is_decoder") and not part.is_encoder_decoder and part.model_type != "trocr":
            part.is_decoder = True  # BERT and its kin cache only as decoders
        entries, pad = getattr(part, "vocab_size", None), getattr(part, "pad_token_id", None)
        if isinstance(entries, int) and isinstance(pad, int) and pad >= entries:
            part.pad_token_id = 0
    last: Exception | None = None
    for cls in _classes(made):
        for attention in ("sdpa", "eager"):
            try:
                made._attn_implementation = attention
                return cls._from_config(made, dtype=getattr(torch, dtype), attn_implementation=attention)
            except Exception as problem:  # whatever the library raises is its answer
                last = problem
    raise InputError(
        f"the library builds no model that generates for model type `{made.model_type}`"
        + (f": {type(last).__name__}: {' '.join(str(last).split())[:160]}" if last else ""),
        hint="estimate needs no library",
    )


def _finite(value: Any) -> Any:
    """Infinity as the library writes it into a config, or as a careful JSON writer does, is a number again."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return float("inf") if value in ("inf", "Infinity") else value


def _classes(config: Any) -> Iterator[Any]:
    """Classes to try: the one named, then those that generate, then the bare decoder."""
    transformers = library()
    from transformers.models.auto import modeling_auto as auto

    for name in config.architectures or ():
        cls = getattr(transformers, str(name), None)
        if isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel):
            yield cls
    pairs: Sequence[Any] = (auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING)
    decoders: Sequence[Any] = (auto.MODEL_FOR_CAUSAL_LM_MAPPING, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING)
    for mapping in (*(pairs if config.is_encoder_decoder else ()), *decoders, auto.MODEL_MAPPING):
        if type(config) in mapping:
            found = mapping[type(config)]
            yield from found if isinstance(found, tuple) else (found,)
    yield from _beside(config)


def _beside(config: Any) -> Iterator[Any]:
    """Classes that generate, in the modeling file beside the config's, for types that no auto class knows."""
    transformers = library()
    package, _, name = type(config).__module__.rpartition(".")
    try:
        module = import_module(f"{package}.{name.replace('configuration_', 'modeling_')}")
    except ImportError:
        return
    for cls in vars(module).values():
        generates = (
            isinstance(cls, type)
            and issubclass(cls, transformers.PreTrainedModel)
            and issubclass(cls, transformers.GenerationMixin)
        )
        if generates and cls.config_class is type(config):
            yield cls
