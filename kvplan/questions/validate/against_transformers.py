"""The prediction against the library itself: a real model class, a real cache object, a prompt and decode steps.

The class that the config names is built with whatever does not touch the cache shrunk (vocabulary, MLPs), and run on
the device in the cache's dtype. Where that needs more memory or arithmetic than is allowed, the true config runs on
torch's meta device instead: the library's own code with shapes and storages, but no memory; the report says so.
Nothing is downloaded, and no code that came with a checkpoint is run.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.dtypes import item_bytes
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.engine import Engine
from kvplan.engines.transformers.engine import Transformers
from kvplan.engines.transformers.options import TransformersOptions
from kvplan.errors import InputError, KvplanError
from kvplan.questions.estimate import predict
from kvplan.questions.validate.against import asked, same_release
from kvplan.questions.validate.cache_tensors import CacheTensor, cache_tensors
from kvplan.questions.validate.compare import Check, RealTensor, Validation, compare
from kvplan.questions.validate.devices import Device, import_torch
from kvplan.questions.validate.library_model import built, library, shrunk, with_layers
from kvplan.questions.validate.tensors import tensor_plan
from kvplan.units import GIB

#: What a run on the device may take.
MAX_BYTES: Final = 2 * GIB  # weights, cache and one layer's activations
MAX_OPERATIONS: Final = 10**12  # multiply-adds of all tokens
_SCORE_BYTES: Final = 32 * 8  # of one pair of tokens: heads, in float32, before and after the softmax


class Ran(Struct, frozen=True):
    """What a run left behind: the tensors, where it ran, and what a reader must know."""

    tensors: tuple[CacheTensor, ...]
    on: str
    remarks: tuple[str, ...] = ()


def validate_against_library(model: Model, workload: Workload, engine: Engine, device: Device) -> Validation:
    """Run the library and compare each tensor with the prediction.

    Args:
        model: read from a config.json; an explicit layer list names no class of the library.
        workload: what goes through the model.
        engine: the `transformers` engine, of the installed release; its `prompt_len` tokens go through at once, the rest one
            by one (all but one when it is None).
        device: where the run is tried first.

    Raises:
        EnvironmentMissing: the library is not installed.
        InputError: no config, another engine or release, or a model that the library cannot run.
    """
    version = library().__version__
    told, _ = asked(engine, Transformers, model)
    same_release(told, version, patch=False)
    told = Transformers(replace(told.options, prompt_len=_prompt_len(workload, told)), told.version)
    answer, ran = run(model, workload, told, device)
    return compared(answer, ran, device)


def predicted(model: Model, workload: Workload, engine: Engine) -> Allocation:
    """What kvplan says.

    Raises:
        InputError: nothing, with its reason.
    """
    answer = predict(engine, model, workload)
    if isinstance(answer, NotPredicted):
        raise InputError(f"not predicted: {answer.reason}", hint=answer.see)
    return answer


def _prompt_len(workload: Workload, engine: Transformers) -> int:
    """Tokens that go through at once: as asked, else all but one."""
    asked = engine.options.prompt_len
    wanted = workload.seq_len - 1 if asked is None else asked
    return max(1, min(wanted, workload.seq_len))


def compared(answer: Allocation, ran: Ran, device: Device) -> Validation:
    """Each predicted tensor beside the real one, and the sums."""
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
    small = shrunk(dict(model.origin.config if model.origin is not None else {}), model)
    dtype = engine.on(model).kv_dtype
    cheap, why = _affordable(small, dtype, workload, answer)
    first: InputError | None = None
    if cheap:
        try:
            return answer, Ran(held_after(small, dtype, workload, engine, device.name), device.name)
        except InputError as problem:
            first, why = problem, f"on {device.name}, {problem}"
    remark = f"on torch's meta device, which runs the library's code and its caches without memory, because {why}"
    try:
        return answer, Ran(held_after(small, dtype, workload, engine, "meta"), "meta", (remark,))
    except InputError as problem:
        first = first or problem
    for layers in (4, 2, 1):
        part = with_layers(small, model, layers)
        if part is None or not _affordable(part[0], dtype, workload, None)[0]:
            continue
        remark = f"with {layers} of {len(model.layers):,} layers, because {why}"
        answer = predicted(part[1], workload, engine)
        return answer, Ran(held_after(part[0], dtype, workload, engine, device.name), device.name, (remark,))
    raise first


def _affordable(config: Mapping[str, Any], dtype: str, workload: Workload, answer: Allocation | None) -> tuple[bool, str]:
    """Whether the device may run it, and if not, why."""
    with _quiet(), _on("meta"):
        weights = sum(parameter.numel() for parameter in built(config, dtype).parameters())
    cache = answer.allocated_bytes if answer else 0
    tokens = workload.batch_size * workload.seq_len
    if weights * item_bytes(dtype) + 3 * cache > MAX_BYTES:  # old, new and returned tensors are there at once
        return False, f"{weights:,} weights and the cache need more than {MAX_BYTES // GIB} GiB"
    if weights * tokens > MAX_OPERATIONS:
        return False, f"{weights:,} weights and {tokens:,} tokens take too long"
    if workload.batch_size * workload.seq_len**2 * _SCORE_BYTES > MAX_BYTES:
        return False, f"the attention scores of {tokens:,} tokens may need more than {MAX_BYTES // GIB} GiB"
    return True, ""


def held_after(
    config: Mapping[str, Any], dtype: str, workload: Workload, engine: Transformers, device: str
) -> tuple[CacheTensor, ...]:
    """The tensors that the library's cache holds after `workload`.

    Raises:
        InputError: the library cannot build or run this model; its own words are in the message.
    """
    torch = import_torch()
    try:
        with _quiet(), _on(device), torch.no_grad():
            network = built(config, dtype).eval()
            cache = make_cache(network, engine, workload)
            held = _forward(network, cache, workload, engine.options.prompt_len or 1, device)
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
        return transformers.QuantizedCache(backend=engine.options.backend, config=text, **_quantization(engine.options))

    def half(length: int) -> Any:
        if asked == "static":
            return transformers.StaticCache(config=text, max_cache_len=length)
        return transformers.DynamicCache() if asked == "plain" else transformers.DynamicCache(config=text)

    length = engine.options.max_cache_len or workload.seq_len
    own = half(length)
    if not network.config.is_encoder_decoder:
        return own
    if text.model_type == "t5gemma" and asked != "static":  # its own `_prepare_cache_for_generation`
        return transformers.EncoderDecoderCache(own, transformers.DynamicCache())
    return transformers.EncoderDecoderCache(own, half(workload.encoder_len))


def _quantization(options: TransformersOptions) -> dict[str, Any]:
    """What the backend's layers take; fp8 takes nothing."""
    if options.backend == "fp8":
        return {}
    axes = {"axis_key": options.axis_key, "axis_value": options.axis_value}
    first = 0 if options.backend == "quanto" else 1  # hqq quantizes along 1 in practice
    return {
        "nbits": options.nbits,
        "q_group_size": options.q_group_size,
        "residual_length": options.residual_length,
        **{name: first if axis is None else axis for name, axis in axes.items()},
    }


def _forward(network: Any, cache: Any, workload: Workload, prompt: int, device: str) -> Any:
    """The prompt at once, then one token a step; the cache object as the class hands it back."""
    torch = import_torch()
    fixed: dict[str, Any] = {"use_cache": True}
    name = "input_ids"
    if network.config.is_encoder_decoder:
        from transformers.modeling_outputs import BaseModelOutput

        shape = (workload.batch_size, workload.encoder_len, encoder_width(network.config))
        fixed["encoder_outputs"] = BaseModelOutput(last_hidden_state=torch.zeros(shape, dtype=network.dtype, device=device))
        fixed["encoder_outputs"].attention_mask = None  # speech encoders hand one on
        name = "decoder_input_ids"
    own = cache_argument(network)
    for length in (prompt, *[1] * (workload.seq_len - prompt)):
        ids = torch.ones((workload.batch_size, length), dtype=torch.long, device=device)
        output = network(**{name: ids}, **fixed, **({own: cache} if cache is not None else {}))
        cache = getattr(output, own, cache)
    return cache


def encoder_width(config: Any) -> int:
    """Elements of one encoder position, as the decoder's cross-attention expects them."""
    parts = [getattr(config, name, None) for name in ("decoder", "encoder", "text_config")]
    encoder = getattr(parts[1], "text_config", None) or parts[1]
    for part, name in (
        (parts[0], "cross_attention_hidden_size"), (encoder, "hidden_size"), (config, "d_model"), (config, "hidden_size"),
        (parts[2], "d_model"), (parts[2], "hidden_size"), (parts[0], "hidden_size"),
    ):  # fmt: skip
        width = getattr(part, name, None)
        if isinstance(width, int):
            return width
    raise InputError("the config names no width of the encoder's output", hint="estimate needs no library")


#: What `forward` calls its cache, newest name first: `cache` since 5.24, where the older name is taken until 5.40.
_CACHE_ARGUMENTS: Final = ("cache", "past_key_values", "cache_params")


def cache_argument(network: Any) -> str:
    """The name of the argument and of the output's field."""
    from inspect import signature

    if network.config.model_type == "rwkv":
        return "state"
    parameters = signature(network.forward).parameters
    return next((name for name in _CACHE_ARGUMENTS if name in parameters), "past_key_values")


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
