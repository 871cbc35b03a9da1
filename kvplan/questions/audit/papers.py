"""Facts that papers print about a model's KV cache: `engine: "paper"`, predicted by the `ideal` engine.

A paper's numbers are theory: elements kept times their size, no blocks, no padding. Which names are predicted is
decided by their form (`_KINDS`); others (perplexities, weights, ratios to another model) are not cache facts and are
left out. A config without a known `model_type` is read by its explicit dimensions.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from msgspec import Struct

from kvplan import architectures
from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.heads import divided
from kvplan.architectures.kit.layers import attention
from kvplan.domain.allocation import NotPredicted
from kvplan.domain.dtypes import lookup
from kvplan.domain.model import MAX_LAYERS, Latent, Layer, Memory, Model, ModelError, Shared
from kvplan.domain.rewrites import share_layers
from kvplan.domain.variants import variant
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.cases import Case, InvalidCase, Read, whole
from kvplan.engines.kernel.printed import Convention, written_like
from kvplan.questions.audit.formulas import evaluate
from kvplan.questions.estimate import plan
from kvplan.units import MAX_COUNT

_UNIT: Final = r"(?P<unit>bytes|[kmgt]i?b)"
#: What a fact's name says that it is; `_printed` behind it means that it was rounded.
_KINDS: Final = tuple(
    (kind, re.compile(rf"(?:{pattern})(?P<printed>_printed)?"))
    for kind, pattern in (
        ("token", rf"(?:kv_)?{_UNIT}_per_token"),
        ("elements", r"(?:kv_)?elements_per_token"),
        ("kv", rf"kv(?:_cache)?_{_UNIT}"),
        ("total", rf"total(?:_{_UNIT})?"),
        ("request", r"one_request_(?P<tokens>\d{1,15}[km]?)"),
        ("formula", r"formula_bytes_per_token"),
    )
)
#: What a paper means by a unit without an `i`, where its text shows it (re-computed from its own numbers).
DEFINITIONS: Final[tuple[tuple[str, Convention], ...]] = (
    ("arXiv 2309.06180", "binary"),  # PagedAttention: 800 KB is 819,200 bytes
    ("arXiv 2303.06865", "binary"),  # FlexGen: 1.2 TB is 1.195 TiB, 325 GB of weights are GiB
    ("arXiv 2408.12570", "binary"),  # Jamba-1.5
    ("huggingface/blog#2345", "binary"),
)


class Erratum(Struct, frozen=True):
    """A published number was computed from another config than the one on record: `key` was `value` then."""

    source: str
    model: str
    key: str
    value: int
    why: str


ERRATA: Final = (
    Erratum(
        source="huggingface/blog#2345",
        model="Llama-3.1-405B",
        key="num_key_value_heads",
        value=16,
        why="computed by its source from the first published config of Llama-3.1-405B, which had 16 KV heads; it has 8",
    ),
)


class Amount(Struct, frozen=True):
    """A predicted quantity that a paper rounds: bytes or elements (several when `16k` may be 16,000 or 16,384)."""

    candidates: tuple[int, ...]
    unit: str
    convention: Convention


class FormulaBytes(Struct, frozen=True):
    """Bytes per token that a paper gives as a formula in `sizes` (n_h, n_g, d_h, l …)."""

    bytes: int
    sizes: Mapping[str, int]


# What the record holds.


def recorded(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The cache facts of the record, by their own names."""
    return {name: value for name, value in expected.items() if _kind(name) is not None}


def asked(case: Case, expected: Mapping[str, Any]) -> dict[str, tuple[str, ...] | None]:
    """The names of the facts, and for one given by length (`{"16k": …}`) the lengths; no values."""
    return {
        name: tuple(value) if isinstance(value, Mapping) else None for name, value in expected.items() if _kind(name) is not None
    }


def _kind(name: str) -> tuple[str, re.Match[str]] | None:
    for kind, pattern in _KINDS:
        match = pattern.fullmatch(name)
        if match is not None:
            return kind, match
    return None


# The prediction.


def predict(case: Case, asked: Mapping[str, tuple[str, ...] | None], read: Read) -> dict[str, Any] | NotPredicted:
    """Bytes and elements of the `ideal` engine for every name asked about."""
    model = model_of(case)
    answers: dict[str, Any] = {}
    for name, lengths in asked.items():
        found = _kind(name)
        if found is None:
            continue
        kind, match = found
        parts = match.groupdict()
        if kind == "formula":
            answers[name] = _formula(case)
        elif lengths is not None:
            answers[name] = {text: _amount(case, model, kind, parts, _lengths(text)) for text in lengths}
        else:
            answers[name] = _amount(case, model, kind, parts, _own_lengths(case, kind, parts))
        if not parts.get("printed") and isinstance(answers[name], Amount):
            answers[name] = answers[name].candidates[0]
    return answers


def _amount(case: Case, model: Model, kind: str, parts: Mapping[str, str | None], seq_lens: tuple[int, ...]) -> Amount:
    convention = _convention(case)
    if kind == "elements":
        return Amount((_plan(model, "float16", 1, 1).bytes_per_token // 2,), "", convention)
    kv_dtype = case.options.get("kv_dtype", "auto")
    if not isinstance(kv_dtype, str):
        raise InvalidCase("`options.kv_dtype` must be a text")
    unit = {"bytes": "B"}.get(parts.get("unit") or "bytes", parts.get("unit") or "B").upper().replace("I", "i")
    if kind == "token":
        return Amount((_plan(model, kv_dtype, 1, 1).bytes_per_token,), unit, convention)
    batch_size = 1 if kind == "request" else case.count("batch", default=1, minimum=1)
    plans = [_plan(model, kv_dtype, seq_len, batch_size) for seq_len in seq_lens]
    # "the KV cache" of a hybrid is its attention layers'; the recurrent states count only in a total
    return Amount(tuple(a.total_bytes - (a.state_bytes if kind == "kv" else 0) for a in plans), unit, convention)


def _plan(model: Model, kv_dtype: str, seq_len: int, batch_size: int) -> Any:
    return plan(model, Workload(seq_len=seq_len, batch_size=batch_size), kv_dtype=kv_dtype)


def _own_lengths(case: Case, kind: str, parts: Mapping[str, str | None]) -> tuple[int, ...]:
    if kind == "request":
        return _lengths(parts.get("tokens") or "")
    return (case.count("seq_len", minimum=1),) if kind in {"kv", "total"} else (1,)


def _lengths(text: str) -> tuple[int, ...]:
    """Tokens that `16k` may mean: 16,384 or 16,000 (papers use both, at times in one table).

    Raises:
        InvalidCase: not a number of tokens.
    """
    match = re.fullmatch(r"(\d{1,15})\s*([kKmM]?)", text.strip())
    if match is None or int(match[1]) == 0:
        raise InvalidCase(f"`{text[:40]}` is not a number of tokens")
    power = {"": 0, "k": 1, "m": 2}[match[2].lower()]
    lengths = tuple(dict.fromkeys(whole(int(match[1]) * base**power, text[:20]) for base in (1024, 1000)))
    return tuple(length for length in lengths if length <= MAX_COUNT)


def _convention(case: Case) -> Convention:
    """Powers of 1,000 or 1,024: what the record says, else what its paper is known to mean, else open."""
    text = f"{case.how} {case.source}"
    if re.search(r"\bdecimal\b|\b1,?000\b", text):
        return "decimal"
    if re.search(r"\b[KMGT]iB\b|\bbinary\b|\b1,?024\b", text):
        return "binary"
    return next((convention for source, convention in DEFINITIONS if source in text), "open")


def remark(case: Case) -> str:
    """What a reader must know about this case: the erratum that it was predicted with."""
    return "; ".join(erratum.why for erratum in _errata(case))


def _errata(case: Case) -> list[Erratum]:
    text = f"{case.how} {case.source}"
    return [e for e in ERRATA if e.source in text and case.model.endswith(e.model)]


# The model: by its family, or by explicit dimensions.


def model_of(case: Case) -> Model:
    """The model that the record's config describes.

    Raises:
        ConfigError, InvalidCase: the config is empty or contradicts itself.
    """
    config = {**case.config, **{erratum.key: erratum.value for erratum in _errata(case)}}
    if not config:
        raise InvalidCase("`config` is missing or empty")
    explicit = "kv_source_layer" in config or "num_kv_layers" in config
    if not explicit and config.get("model_type") in architectures.known_model_types():
        return architectures.read(config, source=case.id, name=case.model)
    return explicit_model(config, source=case.id, name=case.model)


def explicit_model(data: Mapping[str, Any], *, source: str, name: str) -> Model:
    """A model from dimensions alone: layers, KV heads (or a latent), head size, and which layers share.

    `kv_source_layer` gives each layer's source; without it `cla_share_factor` (unless `use_cla` is false) shares
    every so many layers; without both, `num_kv_layers` (or `num_hidden_layers`) layers own their keys and values.

    Raises:
        ConfigError: a dimension is missing or of the wrong type.
        InvalidCase: a sharing map that points forward or out of range.
    """
    c = Config(data, source)
    sources = c.integers("kv_source_layer", maximum=MAX_LAYERS)
    count = _own_layers(c, sources)
    memory = _explicit_memory(c)
    owned = [(memory,) if sources is None or sources[i] == i else (Shared(source=sources[i]),) for i in range(count)]
    try:
        model = Model(
            name=name or "model",
            model_type="explicit",
            layers=tuple(Layer(index=i, memories=m) for i, m in enumerate(owned)),
            dtype=lookup(c.text("torch_dtype", "dtype", default="bfloat16"), what="torch_dtype").name,
            attention_heads=c.integer("num_attention_heads", default=None),
        )
    except ModelError as problem:
        raise InvalidCase(str(problem)) from problem
    if sources is None and "num_kv_layers" not in data and isinstance(data.get("cla_share_factor"), int):
        return share_layers(model, c.integer("cla_share_factor") if c.flag("use_cla", default=True) else 1)
    return model


def _own_layers(c: Config, sources: list[int] | None) -> int:
    """How many layers to lay out: those of the sharing map, else those that own keys and values, else all."""
    if sources is None:
        count: int = c.integer("num_kv_layers", "num_hidden_layers", maximum=MAX_LAYERS)
        return count
    layers = c.integer("num_hidden_layers", default=len(sources), maximum=MAX_LAYERS)
    if len(sources) != layers:
        c.refuse("kv_source_layer", f"has {len(sources)} entries for {layers} layers")
    return len(sources)


def _explicit_memory(c: Config) -> Memory:
    if c.has("kv_lora_rank"):
        return Latent(
            rank=c.integer("kv_lora_rank"),
            rope_dim=c.integer("qk_rope_head_dim", default=0, minimum=0),
            heads=c.integer("num_attention_heads", default=1),
            nope_dim=c.integer("qk_nope_head_dim", default=0, minimum=0),
            value_dim=c.integer("v_head_dim", default=1),
        )
    head_dim = c.integer("head_dim", default=None)
    if head_dim is None:
        head_dim = divided(c, "hidden_size", c.integer("hidden_size"), c.integer("num_attention_heads"), "query heads")
    return attention(c.integer("num_key_value_heads", "num_attention_heads"), head_dim)


# Formulas: `4*n_h*d_h*l`.

#: The last word of a record's id -> the rewrite of the model that the formula is about.
_ATTENTION: Final = {"MHA": "mha", "GQA": "", "MQA": "mqa", "CLA": "mha+cla={n}", "GQA+CLA": "cla={n}", "MQA+CLA": "mqa+cla={n}"}


def _formula(case: Case) -> FormulaBytes:
    """The bytes per token of the attention named at the end of the id, over the config's dimensions."""
    word = case.id.rpartition("/")[2].upper()
    plain = {key: value for key, value in case.config.items() if key not in {"use_cla", "kv_source_layer"}}
    model = explicit_model({**plain, "use_cla": False}, source=case.id, name=case.model)
    c = Config(case.config, case.id)
    text = _ATTENTION.get(word, "").format(n=c.integer("cla_share_factor", default=2))
    if text:
        model = variant(model, text)
    kv_dtype = case.options.get("kv_dtype", "auto")
    sizes = {
        "n_h": c.integer("num_attention_heads"),
        "n_g": c.integer("num_key_value_heads", default=1),
        "d_h": c.integer("head_dim", default=1),
        "l": c.integer("num_hidden_layers"),
        "d_c": c.integer("kv_lora_rank", default=1),
        "d_r": c.integer("qk_rope_head_dim", default=1),
    }
    return FormulaBytes(_plan(model, kv_dtype, 1, 1).bytes_per_token, sizes)


# How a prediction is written beside the record.


def as_recorded(name: str, predicted: Any, recorded: Any) -> Any:
    """The prediction with the digits and unit of the record; the record itself when they agree."""
    match predicted:
        case FormulaBytes():
            if not isinstance(recorded, str):
                raise InvalidCase(f"`{name}` must be a formula")
            return recorded if evaluate(recorded, predicted.sizes) == predicted.bytes else predicted.bytes
        case Mapping():
            return {key: as_recorded(name, predicted[key], value) for key, value in recorded.items()}
        case Amount():
            amounts = tuple(Fraction(amount) for amount in predicted.candidates)
            return written_like(recorded, amounts, name, unit=predicted.unit, convention=predicted.convention)
        case _:
            return predicted
