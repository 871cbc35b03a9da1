"""What TensorRT-LLM decides of a model and its options before it looks at memory: manager, dtype, blocks, windows.

Source: TensorRT-LLM 1.4.0rc4 `_torch/pyexecutor/_util.py`, `resource_manager.py`, `kv_cache_manager_v2.py`,
`py_executor_creator.py`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from kvplan.domain.model import Model, Window
from kvplan.engines.kernel.releases import Release
from kvplan.engines.tensorrt_llm import models, releases
from kvplan.engines.tensorrt_llm.layers import Kept, Sharing, Stage, stages
from kvplan.engines.tensorrt_llm.options import TrtllmOptions
from kvplan.errors import Refused

#: Tokens of a block that FlashMLA reads, on cards of this compute capability.
_FLASH_MLA, _HOPPER = 64, 90
_CACHES: Final = {
    "pytorch": ("bfloat16", "float16", "float32", "fp8_e4m3", "nvfp4"),
    "tensorrt": ("bfloat16", "float16", "float32", "fp8_e4m3", "int8"),
}


class Settled(Struct, frozen=True, kw_only=True):
    """One model in one server, as far as no memory decides it."""

    options: TrtllmOptions
    release: Release
    model: Model
    backend: releases.Backend
    second: bool  # which manager
    dtype: str
    state_dtype: str
    tokens_per_block: int
    stages: tuple[Stage, ...]
    longest: int | None  # tokens of the manager's longest request; None: the model says none
    said: tuple[str, ...] = ()  # where it changes what was asked

    @property
    def windowed(self) -> bool:
        """Whether layers have windows of several sizes, so that there are several pools."""
        return len(self.windows) > 1

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The windows of the first manager's pools, the smallest first; None is every token."""
        found = {kept.window for stage in self.stages for kept in stage.kept if not kept.cross}
        return tuple(sorted(found, key=lambda window: (window is None, window or 0)))

    @property
    def worst(self) -> Stage:
        """The rank whose layers take most of a token."""
        return max(self.stages, key=lambda stage: (stage.token_bytes, stage.state_bytes))

    @property
    def hybrid(self) -> bool:
        """Whether some layers keep states."""
        return any(stage.states for stage in self.stages)

    def slots(self, sequences: int) -> int:
        """Slots of states for so many sequences: one of every pipeline rank's, and those of dummies."""
        live = sequences * self.options.pp_size
        if not self.second:
            return live + 1
        return live + 1 + int(self.options.enable_attention_dp)


def settle(model: Model, options: TrtllmOptions, release: Release, *, any_model: bool = False) -> Settled:
    """Everything that neither the workload nor memory decides.

    Args:
        any_model: take models that this release has no class for: a log shows that one had.

    Raises:
        Refused: what the engine says instead of starting.
    """
    backend = _backend(options, release)
    if backend == "pytorch" and not any_model:
        models.refuse(model)
    dtype = options.dtype or models.stored_dtype(model)
    if dtype not in _CACHES[backend]:
        raise Refused(f"Cannot support {dtype} KV cache.")
    second = _second(model, options, release, backend)
    sharing = Sharing(
        tp=1 if options.enable_attention_dp else options.tp_size,
        pp=options.pp_size,
        dtype=dtype,
        state_dtype=options.state_dtype or models.state_dtype(model),
        drafted=_drafted(options, release),
        draft=options.draft,
    )
    if models.has_encoder(model):
        _refuse_encoder(options, backend)
    found = stages(model, sharing)
    if any(stage.states for stage in found) and backend == "tensorrt":
        raise Refused("kvplan has not read how compiled engines keep recurrent states")
    if any(stage.states for stage in found) and not second and len(set(options.windows)) > 1:
        raise Refused("kvplan has not read how the first manager keeps windows of several sizes beside states")
    longest = _longest(model, options)
    block, said = _block(model, options, release, backend)
    return Settled(
        options=options,
        release=release,
        model=model,
        backend=backend,
        second=second,
        dtype=dtype,
        state_dtype=sharing.state_dtype,
        tokens_per_block=block,
        stages=tuple(_with_windows(stage, model, options, release, second, longest) for stage in found),
        longest=longest,
        said=said,
    )


def _backend(options: TrtllmOptions, release: Release) -> releases.Backend:
    told = options.backend.strip().lower()
    if told == "auto":
        return releases.BACKEND.at(release)
    return "pytorch" if told == "pytorch" else "tensorrt"


def _second(model: Model, options: TrtllmOptions, release: Release, backend: str) -> bool:
    """Which of the two managers. Source: `_util.py`, `llm_args.py:use_kv_cache_manager_v2`."""
    state = releases.SECOND_MANAGER.at(release)
    if backend == "tensorrt" or state == "none":
        if options.second_manager:
            raise Refused("this release has no KVCacheManagerV2")
        return False
    if models.has_encoder(model):
        return False
    if models.needs_second(model):
        if options.second_manager is False:
            raise Refused("heads of several widths need KVCacheManagerV2")
        return True
    if options.second_manager is not None:
        return options.second_manager
    return state == "chosen" and models.prefers_second(model)


def _drafted(options: TrtllmOptions, release: Release) -> int:
    count = options.num_nextn_predict_layers
    return min(count, 1) if releases.ONE_DRAFTER.at(release) else count


def _refuse_encoder(options: TrtllmOptions, backend: str) -> None:
    if options.cross_kv_cache_fraction is None and backend == "pytorch":
        raise Refused(
            "Encoder-decoder models require cross_kv_cache_fraction to size the cross KV cache pool.",
            see="set cross_kv_cache_fraction, such as 0.5",
        )
    if options.pp_size > 1 or options.enable_attention_dp:
        raise Refused("encoder-decoder models take neither pipeline stages nor attention DP")


def _longest(model: Model, options: TrtllmOptions) -> int | None:
    """The longest request of the manager: with a token more where the next step is scheduled early, and what is drafted."""
    asked = options.max_seq_len or model.max_tokens
    if asked is None:
        return None
    return asked + (0 if options.disable_overlap_scheduler else 1) + options.drafted


def _block(model: Model, options: TrtllmOptions, release: Release, backend: str) -> tuple[int, tuple[str, ...]]:
    """Tokens of a block. Source: `py_executor_creator.py` (FlashMLA)."""
    size = options.tokens_per_block or releases.TOKENS_PER_BLOCK.at(release)
    flash = backend == "pytorch" and models.has_latents(model) and options.compute_capability == _HOPPER
    if flash and size != _FLASH_MLA:
        return _FLASH_MLA, (f"Change tokens_per_block to: {_FLASH_MLA} for using FlashMLA",)
    return size, ()


def _with_windows(
    stage: Stage, model: Model, options: TrtllmOptions, release: Release, second: bool, longest: int | None
) -> Stage:
    """The windows that the manager is told, one after the other over the rank's layers, or takes from the config."""
    told = options.windows
    if not told and not (second and releases.DERIVES_WINDOWS.at(release)):
        return stage
    own = not told and not models.drops_windows(model) and _sizes(model) > 1
    kept: list[Kept] = []
    position = 0
    for one in stage.kept:
        if one.cross:
            kept.append(one)
            continue
        window: int | None = None
        if told:
            window = told[position % len(told)]
        elif own and isinstance(one.reach, Window):
            window = one.reach.size
        position += 1
        kept.append(replace(one, window=None if window is None or (longest is not None and window >= longest) else window))
    return replace(stage, kept=tuple(kept))


def _sizes(model: Model) -> int:
    """How many windows the layers have; every token is one of them."""
    found = {
        m.reach.size if isinstance(m.reach, Window) else None
        for layer in model.layers
        for m in layer.memories
        if hasattr(m, "reach") and type(m).__name__ in {"Softmax", "Latent"}
    }
    return len(found)
