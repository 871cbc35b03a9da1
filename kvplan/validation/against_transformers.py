"""The prediction against the library itself: a real model class, a real cache object, a prompt and decode steps.

The class that the config names is built with whatever does not touch the cache shrunk (vocabulary, MLPs), and run on
the device in the cache's dtype. Where that needs more memory or arithmetic than is allowed, the true config runs on
torch's meta device instead: the library's own code with shapes and storages, but no memory; the report says so.
Nothing is downloaded, and no code that came with a checkpoint is run.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from kvplan import architectures
from kvplan.allocation import Allocation, NotPredicted
from kvplan.dtypes import item_bytes
from kvplan.engines.base import Engine
from kvplan.engines.transformers import Transformers
from kvplan.errors import EnvironmentMissing, InputError, KvplanError
from kvplan.model import Model
from kvplan.units import GIB
from kvplan.validation.cache_tensors import CacheTensor, cache_tensors
from kvplan.validation.compare import Check, RealTensor, Validation, compare
from kvplan.validation.devices import Device, import_torch
from kvplan.validation.tensors import tensor_plan
from kvplan.workload import Workload

#: What a run on the device may take.
MAX_BYTES: Final = 2 * GIB  # weights, cache and one layer's activations
MAX_OPERATIONS: Final = 10**12  # multiply-adds of all tokens
#: Keys that decide no cache tensor, and what they become. `_shrunk` looks whether kvplan agrees, key by key.
_SMALL: Final = {
    "vocab_size": 256, "intermediate_size": 64, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
    "ffn_hidden_size": 64, "n_inner": 64, "ffn_dim": 64, "decoder_ffn_dim": 64, "encoder_ffn_dim": 64, "d_ff": 64,
    "vocab_size_per_layer_input": 256, "moe_num_experts": 4, "n_routed_experts": 16, "num_experts": 16, "num_local_experts": 16,
    "expert_ffn_hidden_size": 32,
}  # fmt: skip
_LAYER_KEYS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
_DROPPED: Final = ("pad_token_id", "bos_token_id", "eos_token_id", "quantization_config", "auto_map")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run left behind: the tensors, where it ran, and what a reader must know."""

    tensors: tuple[CacheTensor, ...]
    on: str
    remarks: tuple[str, ...] = ()


def library() -> Any:
    """The transformers module.

    Raises:
        EnvironmentMissing: it is not installed, or does not start.
    """
    try:
        from importlib import import_module

        transformers: Any = import_module("transformers")
    except ImportError as problem:
        raise EnvironmentMissing("transformers is not installed", hint="pip install transformers") from problem
    transformers.logging.set_verbosity_error()
    return transformers


def validate_against_library(model: Model, workload: Workload, engine: Engine, device: Device) -> Validation:
    """Run the library and compare each tensor with the prediction.

    Args:
        model: read from a config.json; an explicit layer list names no class of the library.
        workload: its `prompt_len` tokens go through at once, the rest one by one (all but one when it is None).
        engine: the `transformers` engine, of the installed release.
        device: where the run is tried first.

    Raises:
        EnvironmentMissing: the library is not installed.
        InputError: no config, another engine or release, or a model that the library cannot run.
    """
    version = library().__version__
    if not isinstance(engine, Transformers):
        raise InputError("--against transformers compares the engine transformers", hint="add -e transformers")
    if engine.version.split(".")[:2] != version.split(".")[:2]:
        raise InputError(
            f"transformers {version} is installed, and the prediction is for {engine.version}",
            hint=f"use -e transformers@{version}, or install that release",
        )
    if model.config is None:
        raise InputError(
            "the library needs a config.json, and this model is a list of layers", hint="give its config.json or hub id"
        )
    at = replace(workload, prompt_len=_prompt_len(workload))
    answer, ran = run(model, at, engine, device)
    return _compared(answer, ran, device)


def predicted(model: Model, workload: Workload, engine: Engine) -> Allocation:
    """What kvplan says.

    Raises:
        InputError: nothing, with its reason.
    """
    answer = engine.footprint(model, workload)
    if isinstance(answer, NotPredicted):
        raise InputError(f"not predicted: {answer.reason}", hint=answer.see)
    return answer


def _prompt_len(workload: Workload) -> int:
    if workload.prompt_len is not None:
        return max(1, min(workload.prompt_len, workload.seq_len))
    return max(1, workload.seq_len - 1)


def _compared(answer: Allocation, ran: Ran, device: Device) -> Validation:
    kept = [tensor for tensor in ran.tensors if not tensor.bookkeeping]
    real = [RealTensor(layer=t.layer, name=t.name, shape=t.shape, dtype=t.dtype, storage_bytes=t.storage_bytes) for t in kept]
    checks = (
        Check(name="elements kept", predicted=answer.payload_bytes, real=sum(t.view_bytes for t in kept), exact=True),
        Check(
            name="tensor storage",
            predicted=answer.allocated_bytes,
            real=sum(t.storage_bytes for t in kept),
            exact=True,
            remark=f"{len(kept):,} tensors of the library's cache on {ran.on}",
        ),
        Check(
            name="bookkeeping",
            predicted=answer.bookkeeping_bytes,
            real=sum(t.view_bytes for t in ran.tensors if t.bookkeeping),
            exact=True,
        ),
    )
    return Validation(
        allocation=replace(answer, notes=(*answer.notes, *ran.remarks)),
        device=ran.on,
        device_name=f"transformers {library().__version__}",
        torch_version=str(device.torch.__version__),
        checks=checks,
        buffers=compare(answer, tensor_plan(answer), real),
    )


# The run.


def run(model: Model, workload: Workload, engine: Transformers, device: Device) -> tuple[Allocation, Ran]:
    """Build, prompt and decode: on the device if that is cheap enough, else on the meta device, else with fewer layers.

    Returns:
        The prediction for what was run, and what the run left.

    Raises:
        InputError: the library cannot build or run this model; its own words are in the message.
    """
    answer = predicted(model, workload, engine)
    small = shrunk(dict(model.config or {}), model)
    dtype = engine.kv_dtype(model)
    cheap, why = _affordable(small, dtype, workload, answer)
    first: InputError | None = None
    if cheap:
        try:
            return answer, Ran(_run(small, dtype, workload, engine, device.name), device.name)
        except InputError as problem:
            first, why = problem, f"on {device.name}, {problem}"
    remark = f"on torch's meta device, which runs the library's code and its caches without memory, because {why}"
    try:
        return answer, Ran(_run(small, dtype, workload, engine, "meta"), "meta", (remark,))
    except InputError as problem:
        first = first or problem
    for layers in (4, 2, 1):
        part = with_layers(small, model, layers)
        if part is None or not _affordable(part[0], dtype, workload, None)[0]:
            continue
        remark = f"with {layers} of {len(model.layers):,} layers, because {why}"
        answer = predicted(part[1], workload, engine)
        return answer, Ran(_run(part[0], dtype, workload, engine, device.name), device.name, (remark,))
    raise first


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


def _affordable(config: Mapping[str, Any], dtype: str, workload: Workload, answer: Allocation | None) -> tuple[bool, str]:
    """Whether the device may run it, and if not, why."""
    with _quiet(), _on("meta"):
        weights = sum(parameter.numel() for parameter in _model(config, dtype).parameters())
    cache = answer.allocated_bytes if answer else 0
    tokens = workload.batch_size * workload.seq_len
    if weights * item_bytes(dtype) + 3 * cache > MAX_BYTES:  # old, new and returned tensors are there at once
        return False, f"{weights:,} weights and the cache need more than {MAX_BYTES // GIB} GiB"
    if weights * tokens > MAX_OPERATIONS:
        return False, f"{weights:,} weights and {tokens:,} tokens take too long"
    return True, ""


def _run(config: Mapping[str, Any], dtype: str, workload: Workload, engine: Transformers, device: str) -> tuple[CacheTensor, ...]:
    torch = import_torch()
    try:
        with _quiet(), _on(device), torch.no_grad():
            network = _model(config, dtype).eval()
            cache = make_cache(network, engine, workload)
            held = _forward(network, cache, workload, device)
    except KvplanError:
        raise
    except Exception as problem:  # whatever the library raises is its answer
        reason = f"{type(problem).__name__}: {str(problem).strip().splitlines()[0][:200] if str(problem).strip() else ''}"
        raise InputError(f"the library does not run this model: {reason}", hint="see the library's own message") from problem
    return cache_tensors(held, network)


def make_cache(network: Any, engine: Transformers, workload: Workload) -> Any:
    """The cache object that the options ask for; None where the class makes its own."""
    transformers = library()
    text = network.config  # the cache classes look for its decoder themselves
    asked = engine.options.cache
    if not getattr(network, "_supports_default_dynamic_cache", lambda: True)():
        return None
    if asked == "quantized":
        return transformers.QuantizedCache(
            backend=engine.options.backend, config=text, nbits=engine.options.nbits, q_group_size=engine.options.q_group_size,
            residual_length=engine.options.residual_length,
        )  # fmt: skip

    def half(length: int) -> Any:
        if asked == "static":
            return transformers.StaticCache(config=text, max_cache_len=length)
        return transformers.DynamicCache() if asked == "plain" else transformers.DynamicCache(config=text)

    length = engine.options.max_cache_len or workload.seq_len
    own = half(length)
    encoder = network.config.is_encoder_decoder
    return transformers.EncoderDecoderCache(own, half(workload.encoder_len)) if encoder else own


def _forward(network: Any, cache: Any, workload: Workload, device: str) -> Any:
    """The prompt at once, then one token a step; the cache object as the class hands it back."""
    torch = import_torch()
    fixed: dict[str, Any] = {"use_cache": True}
    name = "input_ids"
    if network.config.is_encoder_decoder:
        from transformers.modeling_outputs import BaseModelOutput

        text = network.config
        width = getattr(text, "d_model", None) or text.get_text_config(encoder=True).hidden_size
        states = torch.zeros((workload.batch_size, workload.encoder_len, width), dtype=network.dtype, device=device)
        fixed["encoder_outputs"] = BaseModelOutput(last_hidden_state=states)
        name = "decoder_input_ids"
    own = (
        "state"
        if network.config.model_type == "rwkv"
        else "cache_params"
        if _takes(network, "cache_params")
        else "past_key_values"
    )
    prompt = workload.prompt_len or 1
    for length in (prompt, *[1] * (workload.seq_len - prompt)):
        ids = torch.ones((workload.batch_size, length), dtype=torch.long, device=device)
        output = network(**{name: ids}, **fixed, **({own: cache} if cache is not None else {}))
        cache = getattr(output, own, cache)
    return cache


def _takes(network: Any, name: str) -> bool:
    from inspect import signature

    parameters = signature(network.forward).parameters
    return name in parameters and "past_key_values" not in parameters


def _model(config: Mapping[str, Any], dtype: str) -> Any:
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
            except (ValueError, ImportError, AttributeError, TypeError, RuntimeError, AssertionError) as problem:
                last = problem
    raise InputError(
        f"the library builds no model that generates for model type `{made.model_type}`"
        + (f": {str(last)[:160]}" if last else ""),
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
    from importlib import import_module

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


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _on(device: str) -> Iterator[None]:
    torch = import_torch()
    with torch.device(device):
        yield
