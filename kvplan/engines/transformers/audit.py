"""Facts of recorded `transformers` caches: the tensors found in a real cache after a prompt and some decode steps.

A record's `per_layer` groups equal layers; here it is one int a layer. Tensors that live outside the cache's layers (states
held by a module, a cache class's own lists) are recorded without a layer, and then count in the totals only.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.dtypes import lookup
from kvplan.domain.model import MAX_LAYERS, Model
from kvplan.domain.workload import Workload
from kvplan.engines.kernel import media_cases
from kvplan.engines.kernel.cases import Case, Covered, InvalidCase, Read, whole
from kvplan.engines.kernel.engine import footprint
from kvplan.engines.kernel.verdicts import Banded
from kvplan.engines.transformers import ledger, media
from kvplan.engines.transformers.engine import Transformers
from kvplan.engines.transformers.models import positions_of_a_tile
from kvplan.limits import AUDIT_RANGES

#: What records call a cache -> the engine's option.
_CACHES: Final = {
    "generate-default": "auto",
    "model_forward_default": "auto",
    "dynamic_full": "plain",
    "DynamicCache_without_config": "plain",
    "DynamicCache() passed by the user": "plain",
}
#: Classes whose `forward` has no `past_key_values` parameter. A recorder that calls `forward` cannot hand them a cache, so
#: whatever these records ask for, their `cache_class` is the DynamicCache that the class makes (`generate()` passes it on).
_TAKES_NO_CACHE: Final = frozenset({"blip", "blip-2", "evolla", "instructblip", "instructblipvideo", "vibevoice"})
_OPTIONS: Final = ("backend", "nbits", "axis_key", "axis_value", "q_group_size", "residual_length")
_DEVICE_FACTS: Final = ("weights_bytes", "cache_storage_bytes", "freed_by_cache", "prefill_peak_over_weights")
#: States that a layer keeps in a list, which the recorder on a GPU did not walk.
_IN_LISTS: Final = ("conv_states.", "recurrent_states.")
#: Names of tensors that hang on modules or on the cache itself, not on one of its layers.
_OUTSIDE: Final = frozenset(
    {"linear_cache", "conv1d_state", "recurrent_states", *"01234", "rnn_state.0", "rnn_state.1", "rnn_state.2"}
)


def recorded(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The totals, and the bytes of each layer where the record places them; or what images and clips cost."""
    if media_cases.is_media(case):
        return media_cases.recorded(expected)
    if _on_device(case):
        return {name: expected[name] for name in _DEVICE_FACTS if name in expected}
    facts: dict[str, Any] = {
        name: expected[name] for name in ("total_bytes", "storage_bytes", "bookkeeping_bytes") if name in expected
    }
    prefill = expected.get("after_prefill")
    if isinstance(prefill, Mapping):
        facts |= {f"prefill_{name}": prefill[name] for name in ("total_bytes", "storage_bytes") if name in prefill}
    layers = _per_layer(expected)
    if layers:
        facts["per_layer_bytes"] = layers
    return facts


def _per_layer(expected: Mapping[str, Any]) -> list[int]:
    sums: list[int] = []
    for entry in _entries(expected):
        first, last = entry["layers"]
        if first is None:
            continue
        first, last = whole(first, "per_layer.layers"), whole(last, "per_layer.layers")
        if not first <= last < MAX_LAYERS:
            raise InvalidCase(f"`per_layer.layers` must be two layer numbers in order, got {first} and {last}")
        sums += [0] * (last + 1 - len(sums))
        for layer in range(first, last + 1):
            sums[layer] += whole(entry["bytes"], "per_layer.bytes")
    return sums


def _entries(expected: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    entries = expected.get("per_layer", [])
    if not isinstance(entries, list) or not all(isinstance(e, Mapping) and len(e.get("layers", ())) == 2 for e in entries):
        raise InvalidCase("`expected.per_layer` must be a list of objects with `layers` and `bytes`")
    if len(entries) > AUDIT_RANGES:
        raise InvalidCase(f"`expected.per_layer` has {len(entries):,} ranges, and at most {AUDIT_RANGES:,} are taken")
    return entries


def asked(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the record lists some tensors without a layer: which facts are asked for, never their values."""
    if media_cases.is_media(case) or _on_device(case):
        return {}
    return {"outside": any(entry["layers"][0] is None for entry in _entries(expected))}


def predict(case: Case, asked: Mapping[str, Any], read: Read) -> Mapping[str, Any] | NotPredicted:
    """The facts of the `transformers` engine at the record's release, after all tokens and after the prompt."""
    if media_cases.is_media(case):
        return media.predict(case, read)
    if _on_device(case):
        return _predict_on_device(case, read)
    model = read(case.config, "")
    prompt, tokens = case.count("prefill", minimum=1), case.count("seq_len", minimum=1)
    batch_size, encoder_len = case.count("batch", minimum=1), _encoder_len(case, model)
    on = Transformers.made({**_options(case), "prompt_len": prompt}, case.engine_version or None).on(model)
    answer = footprint(on, Workload(batch_size=batch_size, seq_len=tokens, encoder_len=encoder_len))
    first = footprint(on, Workload(batch_size=batch_size, seq_len=prompt, encoder_len=encoder_len))
    return {
        "total_bytes": answer.payload_bytes,
        "storage_bytes": answer.allocated_bytes,
        "bookkeeping_bytes": answer.bookkeeping_bytes,
        "prefill_total_bytes": first.payload_bytes,
        "prefill_storage_bytes": first.allocated_bytes,
        "per_layer_bytes": _layer_bytes(answer, outside=asked.get("outside", False)),
    }


def covers(case: Case, facts: Collection[str], read: Read) -> Covered | None:
    """What a record holds: the layers as the library keeps them, on any device; one of images alone holds none."""
    if media_cases.is_media(case):
        return None
    prompt = case.count("prefill", minimum=1)
    on = Transformers.made({**_options(case), "prompt_len": prompt}, case.engine_version or None).on(read(case.config, ""))
    return Covered(model=on.read, stored=on.stored, release=on.engine.release)


def _on_device(case: Case) -> bool:
    """Whether PyTorch's allocator was asked on a GPU, instead of the cache's tensors on a CPU."""
    return "workspace_bytes_taken" in case.workload


def _predict_on_device(case: Case, read: Read) -> Mapping[str, Any]:
    """What the allocator counts of a model, of its cache after a prompt, and of the prompt's pass.

    Workspaces of the libraries, which earlier models of the same process left or this one takes, are the record's to say.
    """
    model, tensors = read(case.config, ""), read.described(case.config)
    prompt, batch_size = case.count("prefill", minimum=1), case.count("batch", minimum=1)
    on = Transformers.made({**_options(case), "prompt_len": prompt}, case.engine_version or None).on(model)
    workload = Workload(batch_size=batch_size, seq_len=prompt)
    cache = footprint(on, workload)
    item = lookup(str(case.options.get("dtype", on.kv_dtype))).block_bytes
    attention = case.options.get("attn_implementation")
    if attention == "unknown":
        attention = case.options.get("attn_implementation_default")
    peak = on.prompt_pass(
        tensors, workload, item, attention=str(attention or ""), logits=case.option("logits_to_keep", default=1)
    )
    taken = case.count("workspace_bytes_taken", default=0)
    return {
        "weights_bytes": ledger.weights(tensors, item) + case.count("workspace_bytes_held_before", default=0),
        "cache_storage_bytes": sum(b.padded_bytes for b in cache.buffers if not b.name.startswith(_IN_LISTS))
        + cache.bookkeeping_bytes,
        "freed_by_cache": on.prompt_cache(workload),
        "prefill_peak_over_weights": Banded(best=peak.bytes + taken, low=peak.low + taken, high=peak.high + taken),
    }


def _layer_bytes(answer: Allocation, *, outside: bool) -> list[int]:
    """One int a layer; RWKV's cache is a list of five tensors over all layers, and each of them is an entry."""
    names = dict.fromkeys(buffer.name for buffer in answer.buffers)
    if set(names) == {"0", "1", "2", "3", "4"}:
        return [sum(b.payload_bytes for b in answer.buffers if b.name == name) for name in sorted(names)]
    sums = [0] * len(answer.kinds)
    for buffer in answer.buffers:
        if outside and buffer.name in _OUTSIDE:
            continue
        for layer in buffer.layers:
            sums[layer] += buffer.payload_bytes // buffer.count
    return sums


def as_recorded(name: str, predicted: Any, recorded: Any) -> Any:
    """Layers without a tensor at the end of the list are in some records and not in others (lazily added, dummies)."""
    if name != "per_layer_bytes" or any(predicted[len(recorded) :]):
        return predicted
    return predicted[: len(recorded)]


def _options(case: Case) -> dict[str, Any]:
    cache = case.options.get("cache_implementation", "auto")
    if case.config.get("model_type") in _TAKES_NO_CACHE and not case.options.get("generate_max_length"):
        cache = "auto"
    options: dict[str, Any] = {"cache": _CACHES.get(cache, cache), "dtype": case.options.get("kv_dtype", "auto")}
    options |= {name: case.options[name] for name in _OPTIONS if case.options.get(name) is not None}
    longest = case.options.get("generate_max_length")
    if longest is not None:
        options["max_length"] = whole(longest, "options.generate_max_length", 1)
    if case.workload.get("max_cache_len") is not None:
        options["max_cache_len"] = case.count("max_cache_len", minimum=1)
    return options


def _encoder_len(case: Case, model: Model) -> int:
    """Encoder positions; images become positions as the vision part cuts them."""
    images = case.workload.get("images_per_sequence")
    if images is None:
        return case.count("encoder_seq_len", default=0)
    return case.count("images_per_sequence") * case.count("tiles_per_image", default=4) * positions_of_a_tile(model)
