"""The ledger of a server that is about to start: from the engine's options and a machine."""

from typing import Final

from msgspec.structs import replace

from kvplan.domain.described import Described
from kvplan.domain.ledger import Ledger
from kvplan.domain.machine import Learned, Machine
from kvplan.domain.pool import Pool
from kvplan.engines.vllm.ledger import cards
from kvplan.engines.vllm.ledger.build import ledger, smallest
from kvplan.engines.vllm.ledger.settings import Card, Settings, resolve
from kvplan.engines.vllm.ledger.shape import shape_of
from kvplan.engines.vllm.options import VllmOptions
from kvplan.engines.vllm.plan import Plan

_V1: Final = (0, 10)  # 0.11 was read; public reports of 0.10 agree with it


def settings_of(options: VllmOptions, plan: Plan, release: tuple[int, ...]) -> Settings:
    """The options that decide memory, with what the plan of the cache has resolved."""
    speculative = options.speculative
    return Settings(
        release=release,
        usage_context="LLM_CLASS" if options.usage_context == "LLM_CLASS" else "OPENAI_API_SERVER",
        gpu_memory_utilization=options.gpu_memory_utilization,
        kv_cache_memory_bytes=options.kv_cache_memory_bytes,
        max_model_len=plan.max_model_len,
        max_num_batched_tokens=options.max_num_batched_tokens,
        max_num_seqs=options.max_num_seqs,
        enable_chunked_prefill=options.enable_chunked_prefill,
        performance_mode=options.performance_mode,
        enforce_eager=options.enforce_eager,
        cudagraph_mode=options.cudagraph_mode,
        cudagraph_capture_sizes=options.capture_sizes,
        max_cudagraph_capture_size=options.max_cudagraph_capture_size,
        tensor_parallel_size=options.tensor_parallel_size,
        pipeline_parallel_size=options.pipeline_parallel_size,
        stage_layers=options.stage_sizes or (),
        data_parallel_size=options.data_parallel_size,
        enable_expert_parallel=options.enable_expert_parallel,
        dtype=plan.model_dtype,
        kv_dtype=plan.cache_dtype,
        block_size=plan.block_size,
        quantization=options.quantization,
        num_speculative_tokens=speculative.num_speculative_tokens,
        speculative_method=speculative.method,
        max_loras=options.max_loras if options.enable_lora else 0,
        max_lora_rank=options.max_lora_rank,
        mm_limits=options.media_limits,
        skip_mm_profiling=options.skip_mm_profiling,
        processor_kwargs=options.processor_kwargs,
        language_model_only=options.language_model_only,
    )


def card_of(machine: Machine) -> Card:
    """The machine's card, with the total that was given or learned; one that no table knows has what its driver said."""
    total = machine.given if machine.given is not None else machine.learned.total
    found = cards.card(machine.gpu.driver_name or machine.gpu.id, total, source="--memory")
    return found if found.compute_capability else replace(found, compute_capability=machine.gpu.capability)


def process_ledger(
    options: VllmOptions, plan: Plan, release: tuple[int, ...], machine: Machine, tensors: Described
) -> Ledger | None:
    """The ledger of the pipeline stage that leaves least for the cache; None for releases whose start was not read."""
    return smallest(stage_ledgers(options, plan, release, machine, tensors)) if release >= _V1 else None


def stage_ledgers(
    options: VllmOptions, plan: Plan, release: tuple[int, ...], machine: Machine, tensors: Described
) -> list[Ledger]:
    """Each pipeline stage's ledger, first to last."""
    settings, card = settings_of(options, plan, release), card_of(machine)
    known = _fitting(machine.learned, settings)
    if machine.given is not None:
        known = replace(known, total=None)
    return [ledger(tensors, settings, card, known, stage)[0] for stage in range(settings.pipeline_parallel_size)]


def startup_lines(
    options: VllmOptions,
    plan: Plan,
    release: tuple[int, ...],
    machine: Machine,
    tensors: Described,
    found: Ledger,
    pool: Pool,
) -> tuple[str, ...]:
    """The start-up in the server's words; what other tenants leave may end it at once."""
    refused = too_little_free(found, machine, release)
    if refused:
        return (f"ValueError: {refused}",)
    from kvplan.engines.vllm.ledger.words import startup

    settings = settings_of(options, plan, release)
    shape = shape_of(tensors.parameters, tensors.config, tensors.text, tensors.text_type)
    return tuple(startup(found, settings, resolve(settings, shape, card_of(machine)), pool))


def _fitting(learned: Learned, settings: Settings) -> Learned:
    """What a machine file says about this many processes: only the total is true of any number."""
    if learned.tensor_parallel in {None, settings.tensor_parallel_size}:
        return learned
    return Learned(total=learned.total, source=learned.source, basis=learned.basis)


def too_little_free(found: Ledger, machine: Machine, release: tuple[int, ...]) -> str:
    """The server's refusal where other tenants leave less than it wants; empty where they leave enough.

    Source: `v1/worker/utils.py:request_memory`; before 0.14 `v1/worker/gpu_worker.py:init_device`.
    """
    if not machine.free or min(machine.free) >= found.requested.low:
        return ""
    from kvplan.engines.vllm.ledger.words import format_gib

    rank = machine.free.index(min(machine.free))
    free, total, wanted = (
        format_gib(amount, release) for amount in (min(machine.free), found.total.bytes, found.requested.bytes)
    )
    share = round(found.requested.bytes / found.total.bytes, 4)
    return (
        f"Free memory on device cuda:{rank} ({free}/{total} GiB) on startup is less than desired GPU memory utilization "
        f"({share:g}, {wanted} GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
    )
