"""`--infer`: an unknown model type, read by the shape of its keys. The result is marked as inferred, and is never too little.

Common key names stand for what they usually mean; a `kv_lora_rank` means latent attention as DeepSeek keeps it, and
`layer_types` means what it means everywhere. Nothing has a default: an unknown class may assume anything. A window
without `layer_types` holds for layers that only the class knows, so none is counted to slide; in a file that is also cut
(`_cut`) the class may know more of its layers, and there is no answer. What a key may mean that none of these reads is said
by `kvplan.architectures.unread`: the answer is then an upper bound that names the key, or a refusal that does.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec.structs import replace

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import MAX_HEADS, MAX_WIDTH, divided, dividing
from kvplan.architectures.kit.layers import CHUNKED, DRAFT_KEYS, FULL, SLIDING, layer_types, reach, read_window
from kvplan.architectures.kit.loops import MAX_PASSES, looped
from kvplan.architectures.kit.reader import Decoder, reader
from kvplan.architectures.unread import Unread, unread, words_of
from kvplan.domain.model import MAX_LAYERS, Latent, Memory, Softmax

_LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_transformer_layers")
_HEADS: Final = (
    "num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "decoder_attention_heads", "num_query_heads",
)  # fmt: skip
_KV_HEADS: Final = (
    "num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_head_kv", "multi_query_group_num", "num_attention_groups",
    "num_query_groups",
)  # fmt: skip
_WIDTHS: Final = ("head_dim", "attention_head_dim", "kv_channels", "head_size", "d_kv", "hidden_size_per_head")
_HIDDEN: Final = ("hidden_size", "n_embd", "d_model", "model_dim", "hidden_dim", "embed_dim", "dim")
_DRAFTS: Final = (*DRAFT_KEYS, "mtp_num_hidden_layers", "num_mtp_modules")
_LATENT: Final = ("qk_rope_head_dim", "qk_nope_head_dim", "qk_head_dim", "q_lora_rank")  # beside `kv_lora_rank`, as in DeepSeek's
#: Words of keys that count heads; what is left says of which layers.
_QUERY: Final = frozenset({"num", "n", "attention", "head", "heads", "query"})
_KV: Final = frozenset({"kv", "key", "value"})
_COUNTS: Final = frozenset(
    {"num", "n", "count", "total", "times", "steps", "loops", "passes", "max", "cycles", "iterations", "repeats"}
)
_SECTIONS: Final = ("text_config", "language_config", "llm_config", "decoder_config", "decoder", "thinker_config")
_ASSUMED: Final = 64  # elements; see `_width`
#: Words of keys that every class has a default for, and that a file has which a program saved: `save_pretrained` leaves none out.
_SAVED: Final = frozenset({"act", "activation", "eps", "epsilon", "dtype", "initializer", "version"})
_DESCRIBE: Final = "describe its layers in YAML (docs/guides/specs.md)"


@reader
def by_shape(outer: Config, model_type: str) -> Decoder:
    """Layers of equal heads, with the reach that the config names: what the unknown class keeps, or more.

    Raises:
        ConfigError: layers, heads or head size cannot be found, or a key may mean a memory whose size no key tells.
    """
    c = _text_section(outer)
    latent = c.has("kv_lora_rank")
    for key in (*_LAYERS, *_HEADS, *_KV_HEADS, *_WIDTHS, *_HIDDEN, *_DRAFTS, "v_head_dim", *(_LATENT if latent else ())):
        c.has(key)
    layers = _one(c, _LAYERS, MAX_LAYERS)
    kinds, window, chunk = _kinds(c, layers)
    others = _others(outer, c, layers)
    listed = c.has("layer_types")
    if (window or chunk) and not listed and _cut(outer, c):
        c.refuse(
            "sliding_window" if window else "attention_chunk_size",
            "is of layers that only the class knows, and the file is cut (it names no activation, norm epsilon, dtype or "
            "transformers_version): what more the class assumes of its layers is not known",
            hint="take the config as its class saves it, list `layer_types`, or " + _DESCRIBE,
        )
    for other in others:
        if _decides(other, windowed=window is not None or chunk is not None or listed, latent=latent):
            outer.refuse(other.path, f"may decide the cache, and no family claims `{model_type[:60]}` to say how", hint=_DESCRIBE)
    if latent and not c.has(_LAYERS[0]):
        c.refuse("kv_lora_rank", f"without `{_LAYERS[0]}`: such classes keep more than one latent a layer", hint=_DESCRIBE)
    heads = _one(c, _HEADS, MAX_HEADS)
    size = _latent(c, heads) if latent else _softmax(c, heads, others)
    window = max([window, *_windows(others)]) if window else None
    memories: dict[str, tuple[Memory, ...]] = {
        kind: (replace(size, reach=reach(c, kind, window, chunk)),) for kind in dict.fromkeys(kinds)
    }
    key, passes = _passes(outer, others)
    drafts = max((c.integer(key, default=0, minimum=0, maximum=MAX_LAYERS) for key in _DRAFTS), default=0)
    found = looped(outer, key, [memories[kind] for kind in kinds], passes, heads=heads)
    note = f"`{model_type[:60]}` is unknown: read by the shape of its keys"
    return replace(found, drafts=[memories[kinds[-1]]] * drafts, notes=(note, *_at_most(c, others, listed=listed), *found.notes))


def _text_section(c: Config) -> Config:
    """The text part of an unknown wrapper."""
    if any(key in c.data for key in _LAYERS):
        return c
    return next((c.section(key) for key in _SECTIONS if isinstance(c.data.get(key), Mapping)), c)


def _one(c: Config, names: tuple[str, ...], maximum: int) -> int:
    """The number that has several names. A class reads one of them: where they differ, nobody knows which."""
    first = c.integer(*names, maximum=maximum)
    for name in names:
        if c.has(name) and c.integer(name, maximum=maximum) != first:
            c.refuse(name, f"and {first:,} under another name: which of them the class reads is not known", hint=_DESCRIBE)
    return first


def _others(outer: Config, c: Config, layers: int) -> list[Unread]:
    """Keys that nobody read, of the text part and beside it."""
    if c.data.get("use_sliding_window") is False or not c.has("sliding_window"):
        c.has("max_window_layers")  # how many layers slide of those that do
    found = list(unread(c.data, outer.read_keys, layers, c.path))
    if c is not outer:
        beside = {key: value for key, value in outer.data.items() if key not in c.data or c.data[key] != value}
        found += unread(beside, outer.read_keys, layers, outer.path)
    return found


def _kinds(c: Config, layers: int) -> tuple[list[str], int | None, int | None]:
    """The kind of each layer, the window and the chunk: a layer is only known to see less where `layer_types` says so."""
    window, chunk = read_window(c, None), c.integer("attention_chunk_size", default=None)
    kinds = layer_types(c, layers, FULL, SLIDING, CHUNKED)
    return kinds or [FULL] * layers, window, chunk


def _cut(outer: Config, c: Config) -> bool:
    """Whether a file holds only what differs from its class's defaults.

    `PretrainedConfig.to_diff_dict` of transformers leaves out what is the default of every class, and writes each key of its own
    class: what a saved file does not say, its class does not have. A file without any key of `_SAVED` was not saved so.
    """
    return not any(words_of(key) & _SAVED for key in (*outer.data, *c.data))


def _decides(other: Unread, *, windowed: bool, latent: bool) -> bool:
    """Whether a key may mean more than the widest layer, kept whole and once a pass.

    A pattern of layers means less where the others are known to slide; heads beside a latent are those of another layer.
    """
    match other.meaning:
        case "pattern":
            return not windowed
        case "heads" | "width":
            return latent or not other.numbers
        case "passes":
            return not other.numbers
        case meaning:
            return meaning == "refused"


def _softmax(c: Config, heads: int, others: list[Unread]) -> Softmax:
    """The most KV heads and the widest that any key names: which layers have them is not known."""
    named = [c.integer(key, maximum=MAX_HEADS) for key in _KV_HEADS if c.has(key)]
    kv = dividing(c, _KV_HEADS[0], heads, max(named)) if named else heads
    more = [n for other in others if other.meaning == "heads" and not _grouped(other, others) for n in other.numbers]
    wide = [other for other in others if other.meaning == "width"]
    width = _width(c, heads)
    keys = [width, *(n for other in wide if "v" not in other.words for n in other.numbers)]
    value = c.integer("v_head_dim", default=max(keys), maximum=MAX_HEADS)
    values = [value, *(n for other in wide if "v" in other.words for n in other.numbers)]
    return Softmax(kv_heads=max([kv, *more]), key_dim=max(keys), value_dim=max(values))


def _grouped(heads: Unread, others: list[Unread]) -> bool:
    """Whether these are query heads of layers whose KV heads another key says, as `swa_num_key_value_heads` does."""
    own = heads.words - _QUERY
    return not own & _KV and any(o.meaning == "heads" and o.words & _KV and o.words - _QUERY - _KV == own for o in others)


def _width(c: Config, heads: int) -> int:
    """Elements of a head: the widest that is named, else what hidden size and heads make, and no less than a class assumes.

    A file may leave `head_dim` out where its class assumes it: Gemma 3 12B has 256, and 3,840 / 16 = 240. Every width that a
    known class assumes is a multiple of 64 (`head_dim` of the rows in `families/`). Fewer than 64 must be said: small files
    that leave it out are often those of a class that assumes more.

    Raises:
        ConfigError: they do not divide, or make fewer than 64.
    """
    named = [c.integer(key, maximum=MAX_HEADS) for key in _WIDTHS if c.has(key)]
    if named:
        return max(named)
    hidden = c.integer(*_HIDDEN, maximum=MAX_WIDTH)
    made = divided(c, _HIDDEN[0], hidden, heads, "query heads")
    if made < _ASSUMED:
        c.refuse(
            _WIDTHS[0], f"is missing, and {hidden:,} / {heads} is less than classes assume", hint="say `head_dim` in the config"
        )
    return -(-made // _ASSUMED) * _ASSUMED


def _latent(c: Config, heads: int) -> Latent:
    return Latent(
        rank=c.integer("kv_lora_rank"),
        rope_dim=c.integer("qk_rope_head_dim", minimum=0),
        heads=heads,
        nope_dim=c.integer("qk_nope_head_dim", minimum=0),
        value_dim=c.integer("v_head_dim"),
    )


def _windows(others: list[Unread]) -> list[int]:
    """Other windows in tokens: a layer that slides may have one of these."""
    return [n for other in others if "window" in other.words and "layers" not in other.words for n in other.numbers]


def _passes(c: Config, others: list[Unread]) -> tuple[str, int]:
    """The most that keys of loops can mean: every layer runs so often for each, and each time keeps a cache of its own."""
    said = [other for other in others if other.meaning == "passes"]
    counts = [other for other in said if other.words & _COUNTS and not other.words & {"layer", "layers", "index"}]
    if said and not counts:
        c.refuse(said[0].path, "speaks of loops, and no key says how many there are", hint=_DESCRIBE)
    key, passes = "num_loops", 1
    for other in counts:
        key, passes = other.path, passes * max(1, *other.numbers)
    if passes > MAX_PASSES:
        c.refuse(key, f"of {passes:,} passes is more than {MAX_PASSES:,}")
    return key, passes


def _at_most(c: Config, others: list[Unread], *, listed: bool) -> Iterator[str]:
    """Why the answer is an upper bound, if it is one."""
    names = [o.path for o in others if not (listed and o.meaning in {"bound", "pattern"})]
    names += [] if listed else [f"{c.path}{key}" for key in ("sliding_window", "attention_chunk_size") if c.has(key)]
    if names:
        shown = ", ".join(f"`{name[:60]}`" for name in names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        yield f"an upper bound: what {shown} may save is not known, so nothing is taken off"
    if not any(map(c.has, (*_WIDTHS, "kv_lora_rank"))) and c.integer(*_HIDDEN) % (_ASSUMED * c.integer(*_HEADS)):
        yield f"an upper bound: no key says how wide a head is, and classes assume multiples of {_ASSUMED} elements"
