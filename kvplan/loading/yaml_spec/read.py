"""YAML model descriptions, decoded strictly: a hub config, explicit layers, or the researchers' short form.

    name: acme/hybrid-9b             |  name: acme/cla-1b              |  name: llama-3.1-8b
    pattern: 12                      |  layers: 20                     |  hub: meta-llama/Llama-3.1-8B
    layers:                          |  attention: {kv_heads: 1,       |  config:
      - repeat: 3                    |    head_dim: 128}               |    model_type: llama
        of: {type: recurrent, …}     |  cross_layer_sharing: 2         |    num_hidden_layers: 32
      - {type: softmax, …}           |                                 |    …

docs/guides/specs.md describes every key.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from kvplan.domain.model import MAX_LAYERS, Assumed, Fact, Layer, Loop, Model, Shared, Softmax
from kvplan.domain.words import NO_ENGINE
from kvplan.errors import SpecError
from kvplan.files import is_hub_id, read_bounded
from kvplan.limits import SIZE_BYTES
from kvplan.loading.yaml_spec.fields import Fields, shown
from kvplan.loading.yaml_spec.nodes import MAX_BYTES, ListNode, MapNode, Node, Scalar, from_python, parse_yaml, to_python

if TYPE_CHECKING:
    from kvplan.loading.yaml_spec.layers import Template

#: What a plan has on top.
_PLAN: Final = (frozenset({"members", "gpu", "include"}), "this is a plan of several models: `kvplan committee FILE`")
_COMMON: Final = ("name", "hub", "source", "notes", "dtype", "max_tokens", "weights_bytes", "parameters")
_EXPLICIT: Final = (
    "layers", "pattern", "attention", "cross_layer_sharing", "attention_heads", "drafts", "loop", "model_type", "inferred",
)  # fmt: skip
#: What stands for a model type when a description names none.
SPEC_TYPE: Final = "spec"
SHARING_NOTE: Final = (
    f"its layers share keys and values by a map in this description: {NO_ENGINE}, "
    "so an engine's figure is what that engine would need if it honored the map"
)


def load_spec(path: Path, *, name: str = "", infer: bool = False, kept: Callable[[bytes], Node | None] = lambda _: None) -> Model:
    """Read a YAML model description; without a `name` of its own it is called after the file.

    Args:
        path: of the file.
        name: of the model, where the description gives none.
        infer: read an unknown architecture by shape.
        kept: the nodes of that text, where they were kept since it was parsed before.

    Raises:
        SpecError: unreadable, not such a description, or inconsistent.
        ConfigError, UnknownArchitecture: its `config` is not a model that kvplan reads.
    """
    raw = read_bounded(path, MAX_BYTES, SpecError, "a YAML model description")
    return _model(kept(raw) or parse_yaml(raw, str(path)), str(path), name or path.stem, infer=infer)


def parse_spec(raw: bytes, source: str, *, name: str = "model", infer: bool = False) -> Model:
    """The model that the YAML text `raw` describes; `source` is what errors call it."""
    return _model(parse_yaml(raw, source), source, name, infer=infer)


def model_from_data(data: Mapping[str, Any], source: str = "dict", *, infer: bool = False) -> Model:
    """The model that a Python mapping of the same form describes.

    Raises:
        SpecError: not such a description, or inconsistent.

    >>> short = {"layers": 20, "attention": {"kv_heads": 1, "head_dim": 128}, "cross_layer_sharing": 2}
    >>> model_from_data(short).layers[1].memories
    (Shared(source=0),)
    """
    return _model(from_python(data, source), source, "model", infer=infer)


def _model(root: Node, source: str, name: str, *, infer: bool) -> Model:
    facts: list[Fact] = []
    top = Fields(root, source, "", (*_COMMON, "config", *_EXPLICIT), facts, other=_PLAN)
    name = top.text("name", limit=200) if top.has("name") else name
    for key in ("hub", "source"):
        if top.has(key):
            top.note(key, top.text(key))
    if top.has("hub") and not is_hub_id(top.text("hub")):  # it is put into commands
        top.refuse(
            "hub", f"must be owner/name on the hub, got {shown(top.entries['hub'])}", hint="letters, digits, `-`, `_`, `.`"
        )
    if top.has("config"):
        return _from_config(top, name, facts, infer=infer)
    return _from_layers(top, name, facts)


def _notes(top: Fields) -> tuple[str, ...]:
    """`notes`: one text, or a list of them."""
    if not top.has("notes"):
        return ()
    node = top.entries["notes"]
    if not isinstance(node, ListNode):
        return (top.text("notes"),)
    texts = [item.value for item in node.items if isinstance(item, Scalar) and isinstance(item.value, str)]
    if len(texts) != len(node.items):
        top.refuse("notes", "must be a text or a list of texts")
    return tuple(text[:2000] for text in texts)


def _from_config(top: Fields, name: str, facts: list[Fact], *, infer: bool) -> Model:
    """A hub config inside a description; the description's own `dtype` and `max_tokens` win."""
    from msgspec.structs import replace

    from kvplan import architectures

    for key in _EXPLICIT:
        if top.has(key):
            top.refuse(key, "cannot stand beside `config`", hint="give a hub config, or layers, not both")
    node = top.need("config")
    if not isinstance(node, MapNode):
        top.refuse("config", f"must be a mapping of config.json's keys, got {shown(node)}")
    model = architectures.read(to_python(node), source=top.where("config"), name=name, infer=infer)
    parameters, assumed = _parameters(top, model)
    return replace(
        model,
        dtype=top.dtype("dtype") if top.has("dtype") else model.dtype,
        max_tokens=(top.tokens("max_tokens") if top.has("max_tokens") else None) or model.max_tokens,
        weights_bytes=top.optional_integer("weights_bytes", maximum=SIZE_BYTES) or model.weights_bytes,
        parameters=parameters,
        assumed=assumed,
        notes=(*model.notes, *_notes(top)),
        provenance=(*facts, *model.provenance),
    )


def _from_layers(top: Fields, name: str, facts: list[Fact]) -> Model:
    """Explicit layers, or the short form."""
    from kvplan.loading.yaml_spec.layers import finished, read_layers  # the catalogue's specs hold configs and need neither

    node = top.need("layers", "config")
    heads = top.optional_integer("attention_heads", maximum=2**20)
    if isinstance(node, ListNode):
        for key in ("attention", "cross_layer_sharing"):
            if top.has(key):
                top.refuse(key, "goes with a number of layers, and `layers` is a list", hint="write `layers: 20`, or drop it")
        template = read_layers(top, "layers", facts)
        repeats = top.integer("pattern", maximum=MAX_LAYERS) if top.has("pattern") else 1
        if len(template) * repeats > MAX_LAYERS:
            top.refuse("pattern", f"makes {len(template) * repeats:,} layers, and at most {MAX_LAYERS:,} are allowed")
        template = template * repeats
    else:
        if top.has("pattern"):
            top.refuse("pattern", "goes with a list of layers, and `layers` is a number", hint="list the layers, or drop it")
        template, heads = _short(top, heads, facts)
    layers = finished(template)
    drafts = finished(read_layers(top, "drafts", facts), of=layers) if top.has("drafts") else ()
    return top.built(lambda: _assembled(top, name, layers, drafts, heads, facts))


def _assembled(
    top: Fields, name: str, layers: tuple[Layer, ...], drafts: tuple[Layer, ...], heads: int | None, facts: list[Fact]
) -> Model:
    parameters, assumed = _parameters(top)
    shares = any(isinstance(memory, Shared) for layer in layers for memory in layer.memories)
    return Model(
        name=name,
        model_type=top.text("model_type", limit=200) if top.has("model_type") else SPEC_TYPE,
        layers=layers,
        drafts=drafts,
        loop=_loop(top),
        dtype=top.dtype("dtype") if top.has("dtype") else "bfloat16",
        max_tokens=top.tokens("max_tokens") if top.has("max_tokens") else None,
        attention_heads=heads,
        weights_bytes=top.optional_integer("weights_bytes", maximum=SIZE_BYTES),
        parameters=parameters,
        assumed=assumed,
        inferred=top.flag("inferred"),
        notes=(*_notes(top), *((SHARING_NOTE,) if shares else ())),
        provenance=tuple(facts),
    )


def _parameters(top: Fields, model: Model | None = None) -> tuple[int | None, Assumed | None]:
    """`parameters: N`, or `{assumed: N, low: …, high: …, because: …}` where nobody published a count."""
    if not top.has("parameters"):
        return (None, None) if model is None else (model.parameters, model.assumed)
    if not isinstance(top.need("parameters"), MapNode):
        return top.integer("parameters", maximum=SIZE_BYTES), None
    said = Fields(top.need("parameters"), top.source, "parameters", ("assumed", "low", "high", "because"))
    said.need_all("assumed", "low", "high", "because")
    count, low, high = (said.integer(key, maximum=SIZE_BYTES) for key in ("assumed", "low", "high"))
    because = said.text("because", limit=200)
    return count, said.built(lambda: Assumed(low=low, high=high, because=because))


def _loop(top: Fields) -> Loop | None:
    """Layers that run several times: `layers` then lists a layer once for each pass that keeps a cache."""
    if not top.has("loop"):
        return None
    loop = Fields(top.need("loop"), top.source, "loop", ("first", "stop", "passes", "kept"))
    kept: Literal["each", "last"] = "last" if loop.has("kept") and loop.choice("kept", ("each", "last")) == "last" else "each"
    first, stop = (loop.integer(key, minimum=0, maximum=MAX_LAYERS) for key in ("first", "stop"))
    passes = loop.integer("passes", maximum=MAX_LAYERS)
    return loop.built(lambda: Loop(first=first, stop=stop, passes=passes, kept=kept))


def _short(top: Fields, heads: int | None, facts: list[Fact]) -> "tuple[Template, int | None]":
    """`attention`, a number of `layers`, and perhaps `cross_layer_sharing`."""
    from kvplan.loading.yaml_spec.layers import MEMORY_KEYS, read_memory, shared_layers

    count = top.integer("layers", maximum=MAX_LAYERS)
    known = ("type", "attention_heads", *MEMORY_KEYS["softmax"], *MEMORY_KEYS["latent"])
    attention = Fields(top.need("attention"), top.source, "attention", dict.fromkeys(known), facts)
    if attention.has("attention_heads"):
        if heads is not None:
            attention.refuse("attention_heads", "is given twice", hint="keep one of the two")
        heads = attention.integer("attention_heads", maximum=2**20)
    memory = read_memory(attention, default="softmax", also=("attention_heads",), allowed=("softmax", "latent"))
    if isinstance(memory, Softmax) and heads is not None and heads % memory.kv_heads:
        attention.refuse("kv_heads", f"{memory.kv_heads} does not divide the {heads} query heads")
    return shared_layers(top, memory, count), heads
