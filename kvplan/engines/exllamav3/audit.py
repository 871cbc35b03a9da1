"""Facts of recorded ExLlamaV3 caches: bytes by layer, TabbyAPI's settings, shares of cards, the host's page tier.

Rows without a config record a function of the engine alone (`ratio_split`). A refusal has one fact, `ok`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from kvplan.domain.model import Model
from kvplan.engines.exllamav3.layers import held, held_by_drafts, relayered
from kvplan.engines.exllamav3.models import architecture, as_read, draft_tokens, from_config, named, refuse
from kvplan.engines.exllamav3.options import ExLlamaV3Options, stored
from kvplan.engines.exllamav3.parallel import Component, device_bytes, ratio_split, refuse_split, split
from kvplan.engines.exllamav3.planes import PAGE, Mode
from kvplan.engines.exllamav3.pool import Caches, Sums, caches, check_mode, check_size, page_tier, settings, sums
from kvplan.engines.exllamav3.states import Held, Slots
from kvplan.engines.kernel.cases import Case, Covered, InvalidCase, Read, spelled_out, whole
from kvplan.engines.kernel.options import build_options
from kvplan.engines.kernel.releases import parse_version
from kvplan.errors import KvplanError, OptionError, Refused

#: Lists for reading: shapes, what the engine says of itself, inputs of the split.
_FOR_READING: Final = frozenset(
    {"groups", "components", "storage_size_reported", "overhead_size_reported", "refused", "cache_layer_type"}
)
_MODES: Final = ("FP16", "Q8", "Q6", "Q4", None)
_PAIR: Final = re.compile(r"^[2-8]\s*,\s*[2-8]$")
#: TabbyAPI's options that decide no size of the cache on one card.
_DECIDE_NO_SIZE: Final = frozenset(
    {
        "tensor_parallel", "tensor_parallel_backend", "gpu_split", "gpu_split_auto", "autosplit_reserve", "rope_scale",
        "rope_alpha", "output_chunking", "vision", "cpu_moe_offload_layers", "prompt_template", "reasoning", "tool_format",
        "draft_gpu_split", "draft_rope_scale", "draft_rope_alpha", "draft_model_dir", "dynamic_draft", "ngram_match_min",
        "backend", "model_name", "model_dir", "max_rq_tokens",
    }
)  # fmt: skip
_JOBS: Final = 16  # Cache(max_batch_size=16)
_DTYPES: Final = {None: "float16", "half": "float16", "float16": "float16", "float": "float32", "float32": "float32"}
_COLUMNS: Final = {
    "channels_to_split": "channels", "channel_width": "width", "channel_unit": "unit", "storage_per_device": "stored_each",
    "storage_to_split": "stored_shared", "overhead_per_device": "overhead_each", "overhead_to_split": "overhead_shared",
    "recons_temp": "temporary", "max_devices": "most_devices", "affinity_key": "affinity",
}  # fmt: skip


def recorded(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Every number of the record; runs of equal layers are spelled out, a drafter's facts are `draft.…`."""
    if expected.get("ok") is False:
        return {"ok": False}
    facts: dict[str, Any] = {}
    for name, value in expected.items():
        if name == "draft" and isinstance(value, Mapping):
            facts |= {f"draft.{key}": fact for key, fact in recorded(case, value).items()}
        elif name in {"per_layer_bytes", "units_per_device"}:
            facts[name] = spelled_out(value, name)
        elif name not in _FOR_READING:
            facts[name] = value
    return facts


def predict(case: Case, asked: Mapping[str, Any], read: Read) -> dict[str, Any]:
    """The facts of a cache, of a server's settings, or of a split."""
    if "channels" in case.workload:
        weights = case.workload.get("weights")
        if not isinstance(weights, list) or not weights:
            raise InvalidCase("`workload.weights` must be a list of numbers")
        chunk = case.count("chunk_size", default=1, minimum=1)
        return {"split": ratio_split(case.count("channels", minimum=1), weights, chunk)}
    try:
        model = _model(case, read)
        refuse(model)
        model = as_read(model)
        if case.options.get("frontend") == "tabbyapi":
            return _server(case, model)
        if case.options.get("tensor_parallel"):
            return _cards(case, model)
        return _cache(case, model)
    except Refused:
        return {"ok": False}


def covers(case: Case, facts: Collection[str], read: Read) -> Covered | None:
    """What a record of a cache holds, on a CPU; a refusal, a split and a page tier hold none."""
    if "per_layer_bytes" not in facts:
        return None
    server = case.options.get("frontend") == "tabbyapi"
    mode = ExLlamaV3Options(cache_mode=str(case.options.get("cache_mode") or "FP16")).mode if server else _mode(case)
    return Covered(model=as_read(_model(case, read)), stored=stored(mode), release=parse_version(case.engine_version))


def _model(case: Case, read: Read) -> Model:
    """The model; the engine's own reading stands in where no other reader takes the config."""
    try:
        return read(case.config, case.model)
    except KvplanError:
        own = from_config(case.config, case.model)
        if own is None:
            raise
        return own


def _mode(case: Case) -> Mode:
    if case.options.get("layer_type", "CacheLayer_fp16") != "CacheLayer_quant":
        return Mode()
    return Mode(k_bits=case.option("k_bits"), v_bits=case.option("v_bits"), quantised=True)


def _slots(case: Case) -> Slots:
    dtype = _DTYPES.get(case.options.get("recurrent_dtype"))
    if dtype is None:
        raise InvalidCase("`options.recurrent_dtype` must be half or float")
    jobs = case.option("max_batch_size", default=_JOBS, minimum=1)
    return Slots(jobs=jobs, history=case.option("max_history", default=0), state_dtype=dtype)


def _kept(case: Case, model: Model) -> tuple[Held, ...]:
    row = architecture(model)
    component = case.options.get("component", "text")
    if component == "mtp":
        if draft_tokens(model) is None:
            raise Refused(f"{named(model)[0]} does not define a 'mtp' component model")
        return held_by_drafts(model, row)
    kept = held(model, row, swa_full=bool(case.options.get("swa_full")))
    return relayered(model, kept, str(case.options.get("layer_map") or ""))


def _cache(case: Case, model: Model) -> dict[str, Any]:
    kept, mode, tokens = _kept(case, model), _mode(case), case.count("max_num_tokens")
    if any(entry.paged for entry in kept):
        check_size(tokens)
        check_mode(kept, mode)
    budget = case.options.get("cpu_cache_size")
    if budget is not None:
        tier = page_tier(Caches(main=kept), mode, Mode(), whole(budget, "options.cpu_cache_size"))
        return {"ok": True, "slot_size": tier.slot_size, "max_slots": tier.max_slots, "tokens": tier.tokens}
    return {"ok": True, **facts(sums(kept, tokens, mode, _slots(case)), tokens)}


def facts(found: Sums, tokens: int) -> dict[str, Any]:
    """The sums of one cache by the record's names."""
    return {
        "total_bytes": found.total_bytes,
        "kv_bytes": found.kv_bytes,
        "state_bytes": found.state_bytes,
        "host_state_bytes": found.host_state_bytes,
        "num_pages": tokens // PAGE,
        "num_kv_layers": found.num_kv_layers,
        "num_state_layers": found.num_state_layers,
        "per_layer_bytes": list(found.per_layer_bytes),
        "checkpoint_bytes": found.checkpoint_bytes,
    }


def _server(case: Case, model: Model) -> dict[str, Any]:
    """A model section of config.yml, with the draft's section inside it."""
    given = {name: value for name, value in case.options.items() if name not in {"frontend", "draft_model"}}
    section = case.options.get("draft_model") or {}
    if not isinstance(section, Mapping):
        raise InvalidCase("`options.draft_model` must be an object")
    given |= {name: value for name, value in section.items() if value is not None}
    _refuse_spelling(given)
    given = {name: value for name, value in given.items() if name not in _DECIDE_NO_SIZE}
    try:
        options: ExLlamaV3Options = build_options(ExLlamaV3Options, given, engine="exllamav3")
    except OptionError as problem:
        raise Refused(str(problem)) from problem
    kept = caches(model, options)
    found = settings(model, options, kept)
    slots = Slots(jobs=found.max_batch_size, history=found.max_history, state_dtype=options.state_dtype)
    answer: dict[str, Any] = {
        "ok": True,
        "max_seq_len": found.max_seq_len,
        "cache_size": found.cache_size,
        "max_batch_size": found.max_batch_size,
        "chunk_size": found.chunk_size,
        "max_history": found.max_history,
        **facts(sums(kept.main, found.cache_size, options.mode, slots), found.cache_size),
    }
    if kept.drafts:
        draft = facts(sums(kept.draft, found.cache_size, options.draft_mode_of_cache, slots), found.cache_size)
        answer |= {f"draft.{name}": value for name, value in draft.items()}
    return answer


def _refuse_spelling(given: Mapping[str, Any]) -> None:
    """What TabbyAPI's option model does not take and kvplan, which asks people, understands. Source: `config_models.py`."""
    for name, pairs in (("cache_mode", True), ("draft_cache_mode", False)):
        value = given.get(name, "FP16")
        if value not in _MODES and not (pairs and _PAIR.search(str(value))):
            raise Refused(f"{name}: {str(value)[:40]}")
    if given.get("draft_mode") == "ngram" and given.get("ngram_match_min", 2) <= 0:
        raise Refused("ngram_match_min must be greater than 0 for n-gram drafting")


def _cards(case: Case, model: Model) -> dict[str, Any]:
    """The split of the recorded components, and each card's part of the cache."""
    kept, mode, tokens = _kept(case, model), _mode(case), case.count("max_num_tokens")
    check_size(tokens)
    check_mode(kept, mode)
    refuse_split(architecture(model), kept, named(model)[0], swa_full=bool(case.options.get("swa_full")))
    limits = case.workload.get("device_bytes")
    if not isinstance(limits, list) or not limits:
        raise InvalidCase("`workload.device_bytes` must be a list of bytes")
    components = _components(case)
    shares = split(
        components,
        [whole(limit, "workload.device_bytes") for limit in limits],
        case.count("num_tokens"),
        case.count("output_num_tokens"),
    )
    return {
        "ok": True,
        "cache_bytes_per_device": device_bytes(kept, components, shares, mode, _slots(case), tokens),
        "units_per_device": shares,
    }


def _components(case: Case) -> list[Component]:
    columns, kinds, order = (case.workload.get(name) for name in ("component_columns", "component_kinds", "components"))
    if not isinstance(columns, list) or not isinstance(kinds, list) or not isinstance(order, list) or not order:
        raise InvalidCase("`workload` must say the components: their columns, kinds and order")
    built = [_component(columns, kind) for kind in kinds]
    if not all(isinstance(number, int) and 0 <= number < len(built) for number in order):
        raise InvalidCase("`workload.components` must be numbers of kinds")
    return [built[number] for number in order]


def _component(columns: Sequence[Any], kind: object) -> Component:
    if not isinstance(kind, list) or not len(columns) - 1 <= len(kind) <= len(columns):
        raise InvalidCase("`workload.component_kinds` must be lists of one value a column")
    values: dict[str, Any] = {}
    for column, value in zip(columns, kind, strict=False):
        if value is None:
            continue
        values[_COLUMNS.get(str(column), "scratch")] = tuple(value) if isinstance(value, list) else value
    return Component(**values)
