"""Cross-layer attention: some layers read the keys and values of an earlier one and keep none.

Hunyuan with `use_cla` shares within groups of `cla_share_factor` layers; the factor stays in the file of models
that do not share (`use_cla: false`), where it means nothing. `llama-cla` (the CLA paper's models) lists, for each
layer, the layer whose keys and values it reads (`kv_source_layer`).
Sources: Cross-Layer Attention, arXiv 2405.12981; the remote code of tencent/Tencent-Hunyuan-Large (`use_cla`).
"""

from typing import Final

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import STANDARD, Row, ignored, read_heads, read_row
from kvplan.architectures.kit.shapes import Decoder, attention
from kvplan.domain.model import Memory, Shared

_NAMES: Final = STANDARD._replace(head_dim=("head_dim", "attention_head_dim"))
_HUNYUAN: Final = Row(32, 32, 4096, names=_NAMES)
#: Every published checkpoint of the remote code has heads of 128, Hunyuan-Large's 80 heads over 6,400 included
#: (arXiv 2411.02265; vLLM 0.32 builds it so), whether or not a copy of its config spells `attention_head_dim`.
_REMOTE: Final = _HUNYUAN._replace(head_dim=128)
_LLAMA: Final = Row(32, 32, 4096)
_NOTE: Final = (
    "no released engine honors CLA in its cache: transformers 5.23 and llama.cpp do not read the keys, "
    "vLLM 0.32 serves the class through its generic backend, SGLang 0.5.23 (`srt/models/hunyuan.py`) and mlx-lm 0.32.2 "
    "compute the sharing but keep a slot for every layer"
)


def read(c: Config, model_type: str) -> Decoder:
    """Owners in order, and between them layers that share."""
    if model_type == "llama-cla":
        return _read_llama_cla(c)
    if c.flag("use_mla"):
        c.refuse("use_mla", "is true, and no published Hunyuan model says how it caches", hint="describe the layers in YAML")
    for key in ("kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
        ignored(c, key, "`use_mla` is false")
    plain = read_row(c, _REMOTE if model_type == "hunyuan" else _HUNYUAN)
    factor = c.integer("cla_share_factor", default=1)
    if not c.flag("use_cla") or factor == 1:
        return plain
    layers = [(Shared(source=i - i % factor),) if i % factor else own for i, own in enumerate(plain.layers)]
    return Decoder(layers=layers, heads=plain.heads, drafts=plain.drafts, notes=(_NOTE,))


def _read_llama_cla(c: Config) -> Decoder:
    heads = read_heads(c, _LLAMA)
    sources = c.integers("kv_source_layer", length=heads.layers) or list(range(heads.layers))
    own: tuple[Memory, ...] = (attention(heads.kv, heads.dim),)
    for i, source in enumerate(sources):
        if source > i or sources[source] != source:
            c.refuse(f"kv_source_layer[{i}]", f"is {source}, which is not an earlier layer that owns its keys and values")
    owners: int | None = c.integer("num_kv_layers", default=None)
    ignored(c, "cla_share_factor", "`kv_source_layer` says it")
    if owners is not None and owners != len(set(sources)):
        c.refuse("num_kv_layers", f"is {owners}, but `kv_source_layer` names {len(set(sources))} owners")
    layers = [own if source == i else (Shared(source=source),) for i, source in enumerate(sources)]
    notes = () if len(set(sources)) == heads.layers else (_NOTE,)
    return Decoder(layers=layers, heads=heads.query, notes=notes)
