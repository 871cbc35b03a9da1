"""What a key that nobody read may mean to a class that nobody knows: nothing for the cache, at most so much, or too much to say.

`--infer` answers from the keys that it read. Each other key in effect is looked at by the words of its name: `window_size`
or `share_every` can only make a cache smaller than all layers kept whole, so the answer stands as an upper bound; a
`conv_kernel`, an `index_topk` or an `encoder_layers` may add to it what no other key tells, so there is no answer.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

Meaning = Literal["beside", "bound", "pattern", "passes", "width", "heads", "refused"]


def _all(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WORDS: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")

#: About what no cache holds: these decide, whatever other words stand beside them.
_BESIDE: Final = _all(
    """
    act activation alibi alpha aux bias bos clamp clip coef config dense draft drafts drop dropout dtype emb embd embed
    embedding embeddings eos eps epsilon expert experts ffn flash fp gate gating id ids implementation init initializer
    inner intermediate layerdrop layernorm length lens ln logit logits logn loss mask mlp moe mtp multiplier multipliers
    mup nextn norm pad parallel pdrop ple position positions predict proj projection quant quantization residual reward
    rms rmsnorm rope rotary route routed router routing scale scaling scoring seq softcap softcapping softmax std
    temperature theta tie tied token tokenizer tokens topk vocab
    """
)
#: Parts of a model that are run before the text decoder, and keep nothing while it writes.
_TOWERS: Final = _all(
    """
    vision visual vit image images img video videos audio speech projector projectors resampler aligner pooling patch
    tower sam codec mel spectrogram
    """
)
#: How often layers run.
_PASSES: Final = _all("loop loops loopnum looped pass passes ut recur repeat repeats iteration iterations cycle cycles")
#: Memories of another kind, whose size these keys do not tell.
_OTHERS: Final = _all(
    """
    cross encoder encoders source src index indexer indexers sparse lightning dsa nsa moba compress compressed
    compression compressor hash ngram conv convolution ssm mamba state states recurrent recurrence rnn lru rwkv wkv lstm
    gru delta deltanet gdn kda gla linear retention retnet hyena kernel memory mem titans hybrid registers lora latent
    rank mla architecture
    """
)
#: What only ever leaves tokens or layers out of a cache.
_LESS: Final = _all("window windows sliding swa local chunk chunked share shared sharing cla yoco reuse interleaved")
#: Which layers are of which kind. Less where the other kind is known to be a window; else it may be anything.
_PATTERN: Final = _all("pattern interval period every freq frequency types global full nope")
_REST: Final = _all(
    """
    layer layers block blocks depth stage stages cache attention attn kv key keys value values group groups
    """
)

_DEEPEST: Final = 8  # sections in sections that are looked into

#: Names that hold one of the words above, and mean something that a cache does not see.
_KNOWN: Final = _all(
    """
    use_cache model_type query_pre_attn_scalar parallel_attn chunk_size_feed_forward apply_query_key_layer_scaling
    first_k_dense_replace decoder_sparse_step n_group topk_group num_expert_group group_limited_greedy pretraining_tp
    problem_type q_lora_rank pool_type partial_rotary_factor use_bidirectional_attention cache_implementation
    no_repeat_ngram_size encoder_no_repeat_ngram_size num_beam_groups hidden_size_per_layer_input for_llm_compressor
    ignore_index has_lora_adapter
    """
)


#: Names of switches whose words say something else: fewer KV heads, or values that are keys.
_SAVING: Final = frozenset({"multi_query", "multi_query_attention", "attention_k_eq_v"})


class Unread(NamedTuple):
    """A key in effect, by its path, and what it may mean."""

    path: str
    value: Any
    meaning: Meaning

    @property
    def words(self) -> frozenset[str]:
        """The words of its name, without those of the sections that it stands in."""
        return words_of(self.path.rpartition(".")[2])

    @property
    def numbers(self) -> tuple[int, ...]:
        """Its whole numbers, be they one or a list."""
        values = self.value if isinstance(self.value, list) else [self.value]
        return tuple(value for value in values if isinstance(value, int) and not isinstance(value, bool))


def words_of(key: str) -> frozenset[str]:
    """The words of a key's name, lower-case and without digits.

    >>> sorted(words_of("num_kv_heads")), sorted(words_of("slidingWindow2"))
    (['heads', 'kv', 'num'], ['sliding', 'window'])
    """
    return frozenset(word.lower() for word in _WORDS.findall(key))


def unread(data: Mapping[str, Any], read: frozenset[str], layers: int, path: str = "") -> Iterator[Unread]:
    """The keys in effect that nobody read and that may decide sizes; null, false and empty values say nothing.

    Args:
        data: a config, or a section of one.
        read: paths of the keys that were read.
        layers: how many there are: a list of so many entries is about them.
        path: of the section, with the point after it.
    """
    for key, value in data.items():
        if not isinstance(key, str) or f"{path}{key}" in read or value is None or value is False or value in ("", [], {}):
            continue
        if isinstance(value, Mapping) and path.count(".") < _DEEPEST:
            if key not in _KNOWN and not words_of(key) & (_TOWERS | _BESIDE - {"config"}):
                yield from unread(value, read, layers, f"{path}{key}.")
            continue
        meaning = "refused" if isinstance(value, Mapping) else meaning_of(f"{path}{key}")
        if meaning == "beside" and isinstance(value, list) and len(value) == layers > 1 and not words_of(key) & _BESIDE:
            meaning = "pattern"
        if meaning != "beside" and not (value == 0 and meaning in {"bound", "pattern"}):
            yield Unread(f"{path}{key}", value, meaning)


def meaning_of(path: str) -> Meaning:
    """What a class may make of a key of this name.

    >>> meaning_of("swa_head_dim"), meaning_of("mlp_bias"), meaning_of("attention_window"), meaning_of("encoder_layers")
    ('width', 'beside', 'bound', 'refused')
    >>> meaning_of("sparse_attention_config.keep")
    'refused'
    """
    section, _, key = path.rpartition(".")
    words = words_of(key)
    if key in _KNOWN:
        return "beside"
    if key in _SAVING:
        return "bound"
    if "cross" in words:
        return "beside" if "entropy" in words else "refused"
    if words & {"head", "heads"}:
        if words & (_OTHERS | {"rope", "nope"}):
            return "refused"
        if words & {"dim", "size", "width", "channels"}:
            return "beside" if words & _TOWERS else "width"
        return "beside" if words & (_BESIDE | _TOWERS) else "heads"
    if words & (_BESIDE | _TOWERS):
        return "beside"
    found = next((meaning for known, meaning in _BY_WORD if words & known), None)
    if found is None and section:
        found = next((meaning for known, meaning in _BY_WORD[:2] if words_of(section) & known), None)
    return found or "beside"


#: What a word means; the first that fits.
_BY_WORD: Final[tuple[tuple[frozenset[str], Meaning], ...]] = (
    (_PASSES, "passes"),
    (_OTHERS, "refused"),
    (_LESS, "bound"),
    (_PATTERN, "pattern"),
    (_REST, "refused"),
)
