"""Sparse attention over a latent: DeepSeek V3.2, GLM-5, A.X-K2, Hy-V4, Mistral Large 4, dots3-note.

A lightning indexer keeps one key of `index_head_dim` elements a token beside the latent and picks the tokens that
attention reads; nothing is dropped from the cache. A layer marked "shared" reuses the choice of the layer before and
has no indexer of its own. Mistral Large 4 adds layers without rotary keys and layers that read another layer's latent;
dots3-note has sliding layers with a latent of another width, and float32 indexer keys.
Sources: DeepSeek-V3.2-Exp report section 2; transformers 5.23 `modeling_*.py` of each (`Indexer`, `kv_sharing_modes`).
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from kvplan.architectures.families.latent import Defaults, draft_count, read_latent
from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.shapes import FULL_NAMES, SLIDING_NAMES, Decoder, layer_count, pattern, query_heads
from kvplan.architectures.kit.states import width
from kvplan.domain.model import Index, Latent, Memory, Shared, Window

#: Spellings of a layer with an indexer.
INDEXED_NAMES: Final = frozenset({"indexed_attention", "deepseek_sparse_attention", "qwen_sparse_attention"})
_LETTERS: Final = {"F": "full", "S": "shared"}

_LARGE4: Final = Defaults(72, 64, nope_dim=64, hidden=6144)
_DOTS3: Final = Defaults(46, 128, hidden=5120)
ROWS: Final[dict[str, Defaults]] = {
    "deepseek_v32": Defaults(61, 128, hidden=7168),
    "glm_moe_dsa": Defaults(78, 64, nope_dim=192, value_dim=256, hidden=6144),
    "axk2": Defaults(48, 32, rank=128, rope_dim=32, nope_dim=64, value_dim=64, hidden=2048),
    "hy_v4": Defaults(34, 32, nope_dim=192, value_dim=256, hidden=2816),
    "mistral_large4_text": _LARGE4,
    "dots3_note_text": _DOTS3,
}


def read(c: Config, model_type: str) -> Decoder:
    """Latents, and an index key cache where a layer owns an indexer."""
    row = ROWS[model_type]
    layers = layer_count(c, default=row.layers)
    heads = query_heads(c, default=row.heads)
    if model_type == "dots3_note_text":
        return _dots3(c, row, layers, heads)
    pattern(c, layers, lambda _: "indexed_attention", allowed=INDEXED_NAMES)
    drafts = draft_count(c)
    index = Index(dim=width(c, "index_head_dim", default=128))
    owners = owns_indexer(c, model_type, layers, drafts)
    if model_type == "mistral_large4_text":
        return _large4(c, row, heads, index, owners)
    latent = read_latent(c, row, heads)
    rows = [(latent, index) if owner else (latent,) for owner in owners]
    return Decoder(layers=rows, heads=heads, drafts=[(latent, index)] * drafts)


def owns_indexer(c: Config, model_type: str, layers: int, drafts: int = 0) -> list[bool]:
    """Which layers run an indexer of their own: `indexer_types`, a pattern of F and S, or every n-th layer.

    Raises:
        ConfigError: another length than the layers, or an unknown kind.
    """
    if model_type in {"deepseek_v32", "axk2"}:
        return [True] * layers  # their modeling code has no shared indexers
    kinds = c.texts("indexer_types", length=layers, allowed=frozenset(_LETTERS.values()))
    if kinds is not None:
        return [kind == "full" for kind in kinds]
    if model_type == "hy_v4":
        return [i == 0 or (i - 1) % 4 == 0 for i in range(layers)]
    spelled = c.data.get("index_topk_pattern")
    if c.has("index_topk_pattern") and isinstance(spelled, str):
        if set(spelled) - set(_LETTERS) or len(spelled) not in {layers, layers + drafts}:
            c.refuse("index_topk_pattern", f"must be {layers} letters F or S, got `{spelled[:40]!r}`")
        return [letter == "F" for letter in spelled[:layers]]
    listed = c.texts("index_topk_pattern", length=layers, allowed=frozenset(_LETTERS.values()))
    if listed is not None:
        return [kind == "full" for kind in listed]
    every = max(c.integer("index_topk_freq", default=1, minimum=0), 1)
    offset = c.integer("index_skip_topk_offset", default=2, minimum=0)
    return [max(i - offset + 1, 0) % every == 0 for i in range(layers)]


# Mistral Large 4.


def _large4(c: Config, row: Defaults, heads: int, index: Index, owners: list[bool]) -> Decoder:
    layers = len(owners)
    rotary = _rotary_layers(c, layers)
    sources = c.integers("kv_source_layers", length=layers, maximum=layers - 1) or list(range(layers))
    latent = read_latent(c, row, heads)
    bare = latent if not latent.rope_dim else _without_rope(latent)
    rows: list[tuple[Memory, ...]] = []
    for i, source in enumerate(sources):
        if source > i or sources[source] != source:
            c.refuse(f"kv_source_layers[{i}]", f"must name an earlier layer that owns its latent, got {source}")
        memory: Memory = Shared(source=source) if source != i else latent if rotary[i] else bare
        rows.append((memory, index) if owners[i] else (memory,))
    return Decoder(layers=rows, heads=heads)


def _rotary_layers(c: Config, layers: int) -> list[bool]:
    """Which layers rotate: `no_rope_layers` (1 rotates), else all but every fourth."""
    given = c.integers("no_rope_layers", length=layers, maximum=1)
    if given is not None:
        return [bool(flag) for flag in given]
    interval = c.integer("no_rope_layer_interval", default=4)
    return [(i + 1) % interval != 0 for i in range(layers)]


def _without_rope(latent: Latent) -> Latent:
    """A layer without rotation keeps the latent alone; its keys are as wide as before."""
    return Latent(
        rank=latent.rank,
        rope_dim=0,
        heads=latent.heads,
        nope_dim=latent.nope_dim + latent.rope_dim,
        value_dim=latent.value_dim,
    )


# dots3-note.


class _Sliding(NamedTuple):
    """A sliding layer's own sizes; `swa_*` in released checkpoints, `per_layer_config` in configs saved later."""

    num_attention_heads: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int


def _dots3(c: Config, row: Defaults, layers: int, heads: int) -> Decoder:
    index = Index(dim=width(c, "index_head_dim", default=128), dtype="float32")
    window = Window(c.integer("sliding_window", "sliding_window_size", default=512))
    kinds = _dots3_kinds(c, layers)
    full = read_latent(c, row, heads)
    released = _released_sliding(c)
    overrides = _by_layer(c.section("per_layer_config"))
    rows: list[tuple[Memory, ...]] = []
    for i, kind in enumerate(kinds):
        if kind in SLIDING_NAMES:
            sizes = _saved_sliding(c, overrides.get(i), full) if c.has("per_layer_config") else released
            rows.append((_sliding_latent(sizes, window),))
        else:
            rows.append((full, index) if kind in INDEXED_NAMES else (full,))
    return Decoder(layers=rows, heads=heads)


def _dots3_kinds(c: Config, layers: int) -> list[str]:
    """One kind a layer. Released checkpoints call an indexed layer "full_attention" unless `use_dsa` is false."""
    slides = c.flag("use_sliding_window", default=True)
    indexed = c.flag("use_dsa", default=True)
    explicit = c.has("use_dsa") or not c.has("per_layer_config")

    def implied(i: int) -> str:
        return "full_attention" if not slides or i < 2 or i % 4 == 1 else "sliding_attention"

    kinds = pattern(c, layers, implied, allowed=INDEXED_NAMES | FULL_NAMES | SLIDING_NAMES)
    if not explicit and c.has("layer_types"):
        return kinds
    wanted = "indexed_attention" if indexed else "full_attention"
    return [kind if kind in SLIDING_NAMES else wanted for kind in kinds]


def _released_sliding(c: Config) -> _Sliding:
    head_dim = width(c, "swa_head_dim", default=256)
    nope = width(c, "swa_qk_nope_head_dim", default=192, minimum=0)
    return _Sliding(
        num_attention_heads=width(c, "swa_num_attention_heads", default=64),
        kv_lora_rank=width(c, "swa_kv_lora_rank", default=1024),
        qk_nope_head_dim=nope,
        qk_rope_head_dim=width(c, "swa_qk_rope_head_dim", default=max(head_dim - nope, 0), minimum=0),
        v_head_dim=width(c, "swa_v_head_dim", default=128),
    )


def _by_layer(saved: Config) -> dict[int, Any]:
    """`per_layer_config` by layer: its keys are numbers, zero-padded or not ("02")."""
    keys = {str(key): value for key, value in saved.data.items()}
    return {int(key): value for key, value in keys.items() if len(key) <= 8 and key.isascii() and key.isdigit()}


def _saved_sliding(c: Config, entry: Any, full: Latent) -> _Sliding:
    """The entry of `per_layer_config`; what it leaves out is as in the other layers."""
    values = entry if isinstance(entry, Mapping) else {}
    inner = Config(values, c.source, f"{c.path}per_layer_config.")
    return _Sliding(
        num_attention_heads=width(inner, "num_attention_heads", default=full.heads),
        kv_lora_rank=width(inner, "kv_lora_rank", default=full.rank),
        qk_nope_head_dim=width(inner, "qk_nope_head_dim", default=full.nope_dim, minimum=0),
        qk_rope_head_dim=width(inner, "qk_rope_head_dim", default=full.rope_dim, minimum=0),
        v_head_dim=width(inner, "v_head_dim", default=full.value_dim),
    )


def _sliding_latent(sizes: _Sliding, window: Window) -> Latent:
    return Latent(
        rank=sizes.kv_lora_rank,
        rope_dim=sizes.qk_rope_head_dim,
        heads=sizes.num_attention_heads,
        nope_dim=sizes.qk_nope_head_dim,
        value_dim=sizes.v_head_dim,
        reach=window,
    )
