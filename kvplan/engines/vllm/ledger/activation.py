"""The peak of the profile run: one forward pass of a full batch without a cache, then the sampler.

`peak_activation` is the largest `allocated_bytes` during `profile_run` less what was allocated when it began: the larger of
forward and sampler, over the library workspaces and the experts' workspace that are made on the way and stay.

Source: `v1/worker/gpu/model_runner.py:profile_run` (V2), `v1/worker/gpu_model_runner.py:profile_run` (V1); 0.26.
"""

from typing import Final

from msgspec import Struct

from kvplan.domain.caching_allocator import fresh_block, round_size
from kvplan.engines.vllm.ledger import releases
from kvplan.engines.vllm.ledger.families import (
    ATTENTION,
    FAMILIES,
    NORMED,
    ROUTED,
    UNKNOWN,
    UNKNOWN_UNGATED,
    Family,
    Moment,
    terms,
)
from kvplan.engines.vllm.ledger.quantised import Quantised
from kvplan.engines.vllm.ledger.sampler import dummy_batch, sampler_bytes
from kvplan.engines.vllm.ledger.settings import Batch, Card, Settings
from kvplan.engines.vllm.ledger.shape import LatentWidths, Shape
from kvplan.units import MIB, ceil_div

#: What cuBLAS takes at the first matrix product, and cuBLASLt at the first biased one, on sm_90 (measured). Before Hopper
#: torch's default is `:4096:2:16:8`; it was not measured here.
CUBLAS_BYTES: Final = 32 * MIB
CUBLAS_OLDER_BYTES: Final = 8_519_680
CUBLAS_LT_BYTES: Final = MIB
_GATED: Final = 3  # gate, up and their product
_GATHERED_REQUESTS: Final = 40
_GATHERED_KEY_BYTES: Final = 132


class Peak(Struct, frozen=True, kw_only=True):
    """The parts of the peak, bytes.

    Attributes:
        forward: the forward pass at its widest, with the experts' workspace where it is there by then.
        sampler: logits and the sampler, with the workspace.
        workspace: the workspace that experts and indexers share; `libraries` cuBLAS and cuBLASLt.
        batch: the V2 runner's dummy batch.
        swapped: bytes that the first forward pass of a process gives back, and later ones do not.
        moment: what is alive at the widest moment of the forward pass.
        known: whether the architecture has a row; `spread` what its peak may miss where it has none.
        unsorted: the sampler where flashinfer's serves and nothing is sorted; 0: no choice.
    """

    forward: int
    sampler: int
    workspace: int
    libraries: int
    batch: int = 0
    moment: str = ""
    known: bool = True
    spread: int = 0
    swapped: int = 0
    unsorted: int = 0

    @property
    def bytes(self) -> int:
        """The peak."""
        return max(self.forward, self.sampler) + self.libraries


def peak(
    shape: Shape,
    settings: Settings,
    batch: Batch,
    card: Card,
    quantised: Quantised | None,
    *,
    last: bool = True,
    swapped: int = 0,
) -> Peak:
    """The peak of the profile run on one rank.

    Args:
        last: the stage has the head and samples.
        swapped: bytes that the first forward gives back.
    """
    item = 4 if settings.dtype == "float32" else 2
    widths = _widths(shape, settings)
    family = _family(shape)
    dummy = dummy_batch(batch.sampled) if batch.v2 else 0
    workspace = max(_expert_workspace(shape, settings, batch, quantised), _index_workspace(shape, settings))
    forward, moment = _forward(shape, family, settings, batch, widths, item, quantised, workspace)
    if settings.captures and settings.cold_compile_cache:
        forward += card.l2_bytes
    spread = 0 if family.known else batch.tokens * item * shape.hidden
    samples = last and not settings.pooling
    sampler = sampler_bytes(shape, settings, batch, card, item) if samples else 0
    unsorted = 0
    if samples and not batch.v2 and releases.SORTED_SAMPLER.at(settings.release) and not settings.release >= (0, 15):
        unsorted = sampler_bytes(shape, settings, batch, card, item, sort=False) + workspace
    if not last:
        forward += 2 * batch.tokens * shape.hidden * item  # what is handed to the next stage
    return Peak(
        forward=forward + dummy - swapped,
        sampler=sampler + workspace + dummy - swapped if sampler else 0,
        workspace=workspace,
        libraries=_libraries(shape, card, settings),
        batch=dummy,
        moment=moment,
        known=family.known,
        spread=spread,
        swapped=swapped,
        unsorted=unsorted,
    )


def _family(shape: Shape) -> Family:
    found = FAMILIES.get(f"{shape.architecture}:{shape.variant}") or FAMILIES.get(shape.architecture)
    if found is not None:
        return found
    return UNKNOWN if shape.gated or shape.experts else UNKNOWN_UNGATED


def _libraries(shape: Shape, card: Card, settings: Settings) -> int:
    """Workspaces that stay; from 0.33 they are made before the snapshot."""
    if releases.WARM_BEFORE_SNAPSHOT.at(settings.release):
        return 0
    cublas = CUBLAS_BYTES if card.compute_capability >= 90 else CUBLAS_OLDER_BYTES
    return round_size(cublas) + (CUBLAS_LT_BYTES if shape.biased else 0)


def _widths(shape: Shape, settings: Settings) -> dict[str, int]:
    """The widths of one rank by the letters of `families`."""
    tp = settings.tensor_parallel_size
    kv_heads = max(1, shape.kv_heads // tp) if shape.kv_heads else 0
    share = kv_heads / shape.kv_heads if shape.kv_heads else 1
    return {
        "H": shape.hidden,
        "I": ceil_div(shape.intermediate, tp),
        "S": ceil_div(shape.shared, tp),
        "M": shape.expert_width if settings.deals_experts else ceil_div(shape.expert_width, settings.expert_ranks),
        "Q": ceil_div(shape.queries, tp),
        "Z": ceil_div(shape.heads * shape.head_dim, tp),
        "N": ceil_div(shape.heads, tp),
        "K": int(shape.keys * share),
        "V": int(shape.values * share),
        "E": shape.experts,
        "A": ceil_div(shape.mixer_in, tp),
        "D": ceil_div(shape.mixer_inner, tp),
        "B": ceil_div(shape.delta_keys, tp),
        "C": ceil_div(shape.delta_values, tp),
        "W": ceil_div(shape.delta_heads, tp),
        "X": shape.top_k * ceil_div(shape.expert_width, 1 if settings.deals_experts else settings.expert_ranks),
        "Y": shape.top_k * shape.hidden,
    }


def _elements(moment: Moment, widths: dict[str, int], tokens: int, item: int) -> int:
    """Bytes alive at a moment, each tensor a block.

    A tensor that no block freed by attention can hold has a segment of its own, and counts all of it where little is left.
    Hidden states are made before anything is freed, or take the place of another.
    """
    freed = tokens * item * (widths["Q"] + widths["K"] + widths["V"])
    found = 0
    for count, name, size in terms(moment):
        one = tokens * widths[name] * (size or item)
        if count == _GATED and name in {"I", "S"}:  # gate and up are one tensor
            found += _block(2 * one, freed) + _block(one, freed)
        else:
            found += count * (fresh_block(one) if name == "H" else _block(one, freed))
    return found


def _block(size: int, freed: int) -> int:
    if not size:
        return 0
    return fresh_block(size) if size > freed else round_size(size)


def _forward(
    shape: Shape,
    family: Family,
    settings: Settings,
    batch: Batch,
    widths: dict[str, int],
    item: int,
    quantised: Quantised | None,
    workspace: int,
) -> tuple[int, str]:
    """The forward pass at its widest, and what is alive then.

    The first layer with experts makes the workspace: attention has it beside it from the next layer on, and dense
    feed-forwards that all come before it never do.
    """
    tokens = batch.tokens
    found: list[tuple[int, str]] = []
    beside_attention = workspace if shape.first_expert_layer < shape.layers - 1 else 0
    if shape.latent is not None:
        chunk = _latent_moment(shape, shape.latent, settings, batch, item)
        found.append((chunk + beside_attention, "latent attention with a whole chunk of keys and values"))
    moments = _compiled_moments(shape, family) if settings.captures else _eager_moments(shape, family, quantised)
    given = family.residual_given and shape.multimodal
    for moment in moments:
        size = _elements(moment, widths, tokens, item)
        if given and not settings.captures:
            size -= round_size(tokens * shape.hidden * item)
        if quantised is not None and not settings.captures:
            size += _quantised_inputs(moment, shape, family, widths, tokens, quantised)
        before = moment == family.feed_forward and shape.last_dense_layer < shape.first_expert_layer
        once = shape.shared and moment == family.mixture  # shared experts run before the first routed ones
        if not before:
            size += beside_attention if once or moment == _attention(shape, family) else workspace
        found.append((size, moment))
    gathered = gathered_bytes(shape, settings, batch, quantised)
    if gathered:
        size = _elements("3H + E", widths, tokens, item) + workspace + gathered
        found.append((size, "experts with the tokens of all data ranks"))
    return max(found)


def gathered_bytes(shape: Shape, settings: Settings, batch: Batch, quantised: Quantised | None) -> int:
    """What the experts read with data ranks: the tokens of all of them, 8-bit where a quantised layer dispatches them so.

    Every rank profiles a full batch at once, and the default all-to-all gathers it. Source:
    `fused_moe/prepare_finalize/naive_dp_ep.py`, `distributed/device_communicators/all2all.py:AgRsAll2AllManager`.
    """
    if settings.data_parallel_size == 1 or not shape.experts:
        return 0
    tokens, item = batch.tokens * settings.data_parallel_size, 4 if settings.dtype == "float32" else 2
    row = shape.hidden * item
    if quantised is not None and quantised.bits == 8 and quantised.blocks:
        row = shape.hidden + ceil_div(shape.hidden, quantised.blocks) * 4
    return fresh_block(tokens * row) + 2 * fresh_block(tokens * (shape.top_k or 1) * 4)


def _attention(shape: Shape, family: Family) -> Moment:
    return family.attention or (NORMED if shape.head_norm else ATTENTION)


def _eager_moments(shape: Shape, family: Family, quantised: Quantised | None) -> list[Moment]:
    moments = []
    if shape.intermediate and family.feed_forward:
        moments.append(family.feed_forward)
    if shape.queries and shape.latent is None:
        moments.append(_attention(shape, family))
    if shape.experts:
        triton = quantised is not None and quantised.name == "mxfp4"  # its kernels keep what the experts give, a token's apart
        moments.append(f"{family.mixture} + X + Y" if triton else family.mixture)
        if shape.shared:
            moments.append(ROUTED)
    if family.mixer and (shape.mixer_in or shape.delta_values):
        moments.append(family.mixer)
    return moments or ["4H"]


def _compiled_moments(shape: Shape, family: Family) -> list[Moment]:
    """Between two attention operations the compiler keeps what the next one needs: two residuals and attention's output."""
    moments = []
    if shape.intermediate:
        moments.append("3I + 2H + Q" if shape.gated else "2I + 2H + Q")
    if shape.shared:
        moments.append("3S + 3H")
    if shape.experts:
        moments.append("Q + K + V + 3H + E")
    return moments or ["Q + K + V + 3H"]


def _quantised_inputs(
    moment: Moment, shape: Shape, family: Family, widths: dict[str, int], tokens: int, quantised: Quantised
) -> int:
    """The 8-bit copy of a linear layer's input, with its scales, where the input itself stays alive."""
    if quantised.bits != 8 or quantised.name not in {"fp8", "compressed-tensors"}:
        return 0
    if moment == family.feed_forward and family.keeps_joined:
        width = widths["I"]
    elif moment == _attention(shape, family) and quantised.blocks and family.quantises_output:
        width = widths["Q"]
    else:
        return 0
    scales = ceil_div(width, quantised.blocks) if quantised.blocks else 1
    return round_size(tokens * width) + round_size(tokens * scales * 4)


def _latent_moment(shape: Shape, latent: LatentWidths, settings: Settings, batch: Batch, item: int) -> int:
    """MLA's profile run allocates the up-projection of the largest chunk of cached context.

    Source: `layers/attention/mla_attention.py:determine_chunked_prefill_workspace_size`.
    """
    heads = ceil_div(shape.heads, settings.tensor_parallel_size)
    block = max(settings.block_size, 1)
    chunk = max(min(max(8 * settings.max_model_len, 4 * batch.seqs * block), 65_536), batch.seqs * block)
    down = (latent.q_rank or 0) + latent.rank + latent.rope
    widths = [heads * (latent.nope + latent.rope), down, latent.rank, heads * latent.value]
    if latent.rotates_apart:
        widths.append(latent.rope)
    if latent.q_rank:
        widths.append(latent.q_rank)
    widths += [shape.hidden, shape.hidden]
    return round_size(chunk * heads * (latent.nope + latent.value) * item) + sum(
        fresh_block(batch.tokens * width * item) for width in widths
    )


def _expert_workspace(shape: Shape, settings: Settings, batch: Batch, quantised: Quantised | None) -> int:
    """Two buffers of the Triton experts, one allocation that all layers share. mxfp4's kernels on Hopper have none.

    Source: `fused_moe/experts/triton_moe.py:workspace_shapes`, `modular_kernel.py:_allocate_buffers`, `v1/worker/workspace.py`.
    """
    if not shape.experts or (quantised is not None and quantised.name == "mxfp4"):
        return 0
    width = _widths(shape, settings)["M"]
    item = 4 if settings.dtype == "float32" else 2
    tokens = batch.tokens * settings.data_parallel_size  # what all data ranks bring
    if settings.data_parallel_size > 1:
        tokens = min(tokens, max(batch.tokens, releases.EXPERT_CHUNK.at(settings.release)))
    rows = tokens * (shape.top_k or 1) * item
    first = ceil_div(rows * max(width, shape.hidden), 256) * 256
    second = ceil_div(rows * max((2 if shape.experts_gated else 1) * width, shape.hidden), 256) * 256
    return fresh_block(first + second)


def _index_workspace(shape: Shape, settings: Settings) -> int:
    """What an indexer gathers cached keys in: 40 requests of the greatest length, 128 bytes of fp8 and a scale each.

    Source: `model_executor/layers/sparse_attn_indexer.py`, `v1/attention/backends/mla/indexer.py:get_max_prefill_buffer_size`.
    """
    return settings.max_model_len * _GATHERED_REQUESTS * _GATHERED_KEY_BYTES + MIB if shape.indexed else 0
