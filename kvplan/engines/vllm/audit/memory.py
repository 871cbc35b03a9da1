"""Facts of recorded starts: every line of the memory ledger, in bytes where the record has them, else as the log prints them.

Four kinds of record: real starts read from the worker, recordings of the engine's own model code on fake tensors (weights, and
peaks for several batches), and published logs. What the machine decides (its total, the card) and what the options leave to the
engine's defaults are inputs or predicted; the recorded figures themselves never are.
"""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import ValidationError, convert

from kvplan.domain.caching_allocator import round_size
from kvplan.domain.ledger import Ledger
from kvplan.domain.model import Model
from kvplan.engines.kernel.cases import Case, InvalidCase, Read, whole
from kvplan.engines.kernel.releases import parse_version
from kvplan.engines.vllm.engine import Vllm
from kvplan.engines.vllm.ledger import build, cards, machine
from kvplan.engines.vllm.ledger.build import Parts, ledger
from kvplan.engines.vllm.ledger.quantised import named_scheme
from kvplan.engines.vllm.ledger.settings import Card, Settings
from kvplan.units import GIB, MAX_COUNT

BYTES: Final = (
    "requested_memory", "weights_bytes", "peak_activation_bytes", "non_torch_bytes", "available_memory", "num_blocks",
    "kv_storage_bytes", "parameters",
)  # fmt: skip
PRINTED: Final = ("weights_gib", "peak_activation_gib", "available_kv_gib", "kv_cache_tokens", "max_concurrency")
_ROUNDING: Final = 0.005  # GiB: two decimals
_DEFAULT_CARD: Final = "NVIDIA H200"
_FLAGS: Final = (
    "gpu_memory_utilization", "kv_cache_memory_bytes", "max_num_batched_tokens", "max_num_seqs", "enforce_eager",
    "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "enable_expert_parallel", "quantization",
    "max_loras", "max_lora_rank",
)  # fmt: skip


def is_memory(case: Case, expected: Mapping[str, Any]) -> bool:
    """Whether a record is about the start-up ledger rather than about the plan of the cache."""
    return bool({"weights_bytes", "profile", "weights_gib", "requested_gib", "available_kv_gib"} & set(expected)) and not (
        {"memory", "pool_bytes_per_block", "num_groups"} & set(expected)
    )


def recorded(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The ledger's facts that the record has."""
    facts = {name: expected[name] for name in (*BYTES, *PRINTED) if expected.get(name) is not None}
    for i, run in enumerate(_runs(expected)):
        if "peak_activation_bytes" in run:
            facts[f"profile[{i}].peak_activation_bytes"] = run["peak_activation_bytes"]
    return facts


def _runs(expected: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    runs = expected.get("profile", [])
    if not isinstance(runs, list) or not all(isinstance(run, Mapping) for run in runs):
        raise InvalidCase("`expected.profile` must be a list of objects")
    return runs


def asked(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """What the machine decided: its total, and what it found for the cache, where the record has bytes (then the blocks are
    judged by that, and a wrong line is one wrong fact); and the batches that a recording was asked for.
    """
    runs = [{name: whole(run.get(name), f"profile.{name}", 1) for name in ("tokens", "max_num_seqs")} for run in _runs(expected)]
    snapshot = expected.get("init_snapshot_gib")
    total = expected.get("total_memory")
    if total is None and isinstance(snapshot, Mapping) and isinstance(snapshot.get("total"), int | float):
        total = int(snapshot["total"] * GIB)
    if total is None and isinstance(case.workload.get("total_gib"), int | float):
        total = int(case.workload["total_gib"] * GIB)
    found = expected.get("available_memory")
    return {
        "runs": runs,
        "total": None if total is None else whole(total, "expected.total_memory", 1),
        "available": None if found is None else whole(found, "expected.available_memory"),
    }


def predict(case: Case, asked: Mapping[str, Any], read: Read) -> dict[str, Any]:
    """The facts of the start at the record's release."""
    if not case.config:
        raise InvalidCase("the record has no config")
    config = uncut(case.config)
    model = read.described(config)
    card = card_of(case, asked["total"])
    facts: dict[str, Any] = {}
    for i, run in enumerate(asked["runs"]):
        settings = settings_of(case, config, tokens=run["tokens"], seqs=run["max_num_seqs"])
        found = build.parts(model, settings, card)
        again = 0 if run["tokens"] == max(one["tokens"] for one in asked["runs"]) else found.peak.swapped
        facts[f"profile[{i}].peak_activation_bytes"] = _recorded_peak(found) + again
    settings = settings_of(case, config)
    stages = [ledger(model, settings, card, stage=stage) for stage in range(settings.pipeline_parallel_size)]
    facts |= _ledger_facts(*stages[0])
    left = [one.available.bytes for one, _ in stages] if asked["available"] is None else [asked["available"]]
    facts |= _pool_facts(case, config, settings, left, read)
    return facts


def _recorded_peak(found: Parts) -> int:
    """The peak as the recorder of fake tensors sees it: for the V1 runner it keeps a vector of row numbers beside the logits."""
    own = 0 if found.batch.v2 else round_size(8 * found.batch.sampled)
    return max(found.peak.forward, found.peak.sampler + own) + found.peak.libraries


def _ledger_facts(found: Ledger, parts: Parts) -> dict[str, Any]:
    """The lines of the first stage, which is the one that logs print first."""
    amounts = {line.name: line.bytes for line in found.lines}
    weights = sum(amounts.get(name, 0) for name in (build.WEIGHTS, build.LORA, build.DRAFTER))
    activation = amounts[build.ACTIVATION]
    return {
        "requested_memory": found.requested.bytes,
        "weights_bytes": weights,
        "parameters": parts.loaded.parameters,
        "peak_activation_bytes": activation,
        "non_torch_bytes": amounts[machine.NON_TORCH],
        "available_memory": found.available.bytes,
        "weights_gib": weights / GIB,
        "peak_activation_gib": activation / GIB,
        "available_kv_gib": found.available.bytes / GIB,
    }


def _pool_facts(case: Case, config: Mapping[str, Any], settings: Settings, left: list[int], read: Read) -> dict[str, Any]:
    """What the engine makes of the bytes that are left on each stage (one stands for all): the least decides."""
    budgets = tuple(max(0, amount) for amount in left)
    model = read(config, "")
    on = Vllm.made(pool_options(case, settings), ".".join(map(str, settings.release))).on(model)
    pool = on.reserved(budgets)
    if pool.refused:
        return {"refused": True}
    return {
        "num_blocks": pool.num_blocks,
        "kv_storage_bytes": pool.num_blocks * on.plan.block_bytes[0],
        "kv_cache_tokens": pool.num_tokens,
        "max_concurrency": pool.concurrency,
    }


def asked_engine(case: Case, read: Read) -> tuple[Vllm, Model]:
    """The engine of a start, and its model."""
    config = uncut(case.config)
    settings = settings_of(case, config)
    return Vllm.made(pool_options(case, settings), ".".join(map(str, settings.release))), read(config, "")


def as_recorded(name: str, predicted: Any, recorded: Any) -> Any:
    """A printed figure agrees within its rounding."""
    if not isinstance(predicted, int | float) or not isinstance(recorded, int | float):
        return predicted
    if name.endswith("_gib"):
        digits = len(str(recorded).partition(".")[2])
        half = _ROUNDING if digits <= 2 else 0.5 * 10.0**-digits
        return recorded if abs(predicted - recorded) <= half + 1e-9 else round(predicted, 4)
    if name == "max_concurrency":
        return recorded if abs(predicted - recorded) <= _ROUNDING + 1e-9 else round(predicted, 4)
    return predicted


def uncut(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A config whose layers were cut by hand, with its list of layer types cut likewise, as the engine reads it."""
    nested = config.get("text_config")
    text = nested if isinstance(nested, Mapping) and nested else config
    count, kinds = text.get("num_hidden_layers"), text.get("layer_types")
    if not isinstance(kinds, list) or not isinstance(count, int) or len(kinds) <= count:
        return config
    text = {**text, "layer_types": kinds[:count]}
    return {**config, "text_config": text} if nested else text


def card_of(case: Case, total: int | None) -> Card:
    """The record's card: named by it, or the one that the recordings were made on."""
    name = case.more.get("gpu") or case.workload.get("gpu") or _DEFAULT_CARD
    return cards.card(str(name), total)


def settings_of(case: Case, config: Mapping[str, Any], *, tokens: int | None = None, seqs: int | None = None) -> Settings:
    """The engine's options of a record, by its own names."""
    given = {name: case.options[name] for name in _FLAGS if case.options.get(name) is not None}
    resolved = case.more.get("resolved")
    resolved = resolved if isinstance(resolved, Mapping) else {}
    fake = "fake tensors" in case.how
    if tokens is not None:
        given |= {"max_num_batched_tokens": tokens, "max_num_seqs": seqs}
    elif not case.more.get("usage_context") and isinstance(resolved.get("max_num_batched_tokens"), int):
        given.setdefault("max_num_batched_tokens", resolved["max_num_batched_tokens"])  # decided by how it was started
    if not given.get("quantization") and not config.get("quantization_config"):
        given["quantization"] = named_scheme(case.model)
    dtype = str(case.options.get("dtype") or resolved.get("dtype") or _dtype(config)).removeprefix("torch.")
    return _typed(
        {
            "release": parse_version(case.engine_version or "0.26.0"),
            "usage_context": _context(case),
            "max_model_len": _length(case, config),
            "dtype": {"half": "float16", "auto": _dtype(config)}.get(dtype, dtype),
            "kv_dtype": str(case.options.get("kv_cache_dtype", "auto")),
            "deep_gemm": False if fake else None,
            "flashinfer": "flashinfer not installed" not in case.how and not fake,
            **given,
        }
    )


def _typed(values: Mapping[str, Any]) -> Settings:
    """The options, each of its type and of a size that can be.

    Raises:
        InvalidCase: one is not.
    """
    for name, value in values.items():
        numbers = value if isinstance(value, list | tuple) else (value,)
        least = 1 if name.endswith(("_size", "_seqs", "_tokens", "_len")) else 0
        most = 1 if name == "gpu_memory_utilization" else MAX_COUNT
        if any(isinstance(n, int | float) and not isinstance(n, bool) and not least <= n <= most for n in numbers):
            raise InvalidCase(f"`options.{name}` must be from {least} to {most:,}")
    try:
        return convert(values, Settings)
    except ValidationError as problem:
        raise InvalidCase(f"the options cannot be read: {problem}") from problem


def _context(case: Case) -> Any:
    named = case.more.get("usage_context")
    if named in {"OPENAI_API_SERVER", "LLM_CLASS"}:
        return named
    return "LLM_CLASS" if "LLM(" in case.how or "LLM_CLASS" in case.how or "fake tensors" in case.how else "OPENAI_API_SERVER"


def _length(case: Case, config: Mapping[str, Any]) -> int:
    given = case.options.get("max_model_len")
    if isinstance(given, int) and given > 0:
        return given
    nested = config.get("text_config")
    for section in (nested if isinstance(nested, Mapping) else {}, config):
        value = section.get("max_position_embeddings")
        if isinstance(value, int) and value > 0:
            return value
    return 8192


def _dtype(config: Mapping[str, Any]) -> str:
    nested = config.get("text_config")
    for section in (config, nested if isinstance(nested, Mapping) else {}):
        value = section.get("torch_dtype") or section.get("dtype")
        if isinstance(value, str):
            name = value.removeprefix("torch.")
            return "bfloat16" if name == "float32" else name
    return "bfloat16"


def pool_options(case: Case, settings: Settings) -> dict[str, Any]:
    """The options of the cache's plan."""
    found: dict[str, Any] = {
        "max_model_len": case.options.get("max_model_len"),
        "tensor_parallel_size": settings.tensor_parallel_size,
        "pipeline_parallel_size": settings.pipeline_parallel_size,
        "usage_context": settings.usage_context,
    }
    for name in ("kv_cache_dtype", "dtype", "block_size", "enable_prefix_caching", "max_num_batched_tokens"):
        if case.options.get(name) is not None:
            found[name] = case.options[name]
    return {name: value for name, value in found.items() if value is not None}
