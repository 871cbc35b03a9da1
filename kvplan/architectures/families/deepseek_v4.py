"""DeepSeek V4: a sliding window of shared keys and values, and one compressed entry for every 4 or 128 tokens.

Every layer stores a single vector of `head_dim` a token that is key and value at once, for the last `sliding_window`
tokens. Compressed-sparse layers add one entry for 4 tokens (overlapping groups) and an indexer over those entries;
heavily-compressed layers one for 128. The layer map is `layer_types`, or `compress_ratios` in released checkpoints,
whose last entries belong to the prediction layers. Sources: transformers 5.23
`models/deepseek_v4`; V4.1: mlx-lm 0.32 `models/deepseek_v41.py`.
"""

from typing import Final

from kvplan.architectures.families.latent import draft_count
from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.shapes import Decoder, layer_count, query_heads
from kvplan.architectures.kit.states import width
from kvplan.domain.model import Compressed, Index, Memory, Softmax, Window

_SLIDING: Final = "sliding_attention"
_SPARSE: Final = "compressed_sparse_attention"
_HEAVY: Final = "heavily_compressed_attention"
_OF_RATIO: Final = {0: _SLIDING, 4: _SPARSE, 128: _HEAVY}


def read(c: Config, model_type: str) -> Decoder:
    """Each layer's window, compressed entries and indexer."""
    layers = layer_count(c, default=43)
    heads = query_heads(c, default=64)
    drafts = draft_count(c, default=1)
    kinds = _kinds(c, layers, drafts)
    head_dim = width(c, "head_dim", default=512)
    window = Softmax(kv_heads=1, key_dim=head_dim, value_dim=0, reach=Window(c.integer("sliding_window", default=128)))
    rates = c.section("compress_rates")
    sparse = Compressed(_rate(c, rates, "compress_rate_csa", _SPARSE, 4), overlap=True)
    heavy = Compressed(_rate(c, rates, "compress_rate_hca", _HEAVY, 128))
    memories: dict[str, tuple[Memory, ...]] = {
        _SLIDING: (window,),
        _SPARSE: (
            window,
            Softmax(kv_heads=1, key_dim=head_dim, value_dim=0, reach=sparse),
            Index(dim=width(c, "index_head_dim", default=128), reach=sparse),
        ),
        _HEAVY: (window, Softmax(kv_heads=1, key_dim=head_dim, value_dim=0, reach=heavy)),
    }
    rows = [memories[kind] for kind in kinds]
    if model_type == "deepseek_v41":
        _keep_sources(c, rows, layers)
    return Decoder(layers=rows[:layers], heads=heads, drafts=rows[layers:])


def _keep_sources(c: Config, rows: list[tuple[Memory, ...]], layers: int) -> None:
    """V4.1 lists the layers that own compressed entries and indexers; the others read the last owner's."""
    entries = c.integers("kv_source_layer_ids", maximum=layers - 1)
    indexers = c.integers("index_source_layer_ids", maximum=layers - 1)
    for i in range(layers):
        window, *compressed = rows[i]
        kept = [
            memory
            for memory in compressed
            if (owners := indexers if isinstance(memory, Index) else entries) is None or i in owners
        ]
        rows[i] = (window, *kept)


def _rate(c: Config, rates: Config, legacy: str, kind: str, default: int) -> int:
    """Tokens an entry: the old scalar key wins over the map, as in the config class."""
    found: int = c.integer(legacy) if c.has(legacy) else rates.integer(kind, default=default)
    return found


def _kinds(c: Config, layers: int, drafts: int) -> list[str]:
    """One kind a layer, the prediction layers last (sliding when the config does not say)."""
    given = c.texts("layer_types", allowed=frozenset(_OF_RATIO.values()))
    if given is None:
        ratios = c.integers("compress_ratios")
        if ratios is not None:
            for i, ratio in enumerate(ratios):
                if ratio not in _OF_RATIO:
                    c.refuse(f"compress_ratios[{i}]", f"must be 0, 4 or 128, got {ratio}")
            given = [_OF_RATIO[ratio] for ratio in ratios]
    if given is None:
        given = [_HEAVY if i < 2 or i % 2 == 0 else _SPARSE for i in range(layers)]
    if len(given) < layers:
        c.refuse("layer_types" if c.has("layer_types") else "compress_ratios", f"has {len(given)} entries for {layers} layers")
    return [*given[:layers], *[(given[i] if i < len(given) else _SLIDING) for i in range(layers, layers + drafts)]]
