"""What-if rewrites of a model: the same layers with other heads, reach, states or sharing. Pure: a Model in, a Model out.

    mha           as many KV heads as query heads
    gqa=K         K KV heads (K divides the query heads)
    mqa           one KV head
    mla=R+D       one latent of R elements and a rotary key of D (64 when left out) for each token
    state         a linear attention's state in place of keys and values: query heads x key x value elements, in float32
    state=AxBxC   a state of that shape
    window=W      no layer looks further back than W tokens
    full          every layer sees every token
    index=D       an indexer beside keys and values: one key of D elements more for each token
    cla=N         cross-layer attention: N layers in a row share the keys and values of the first
    loop=N        the layers run N times a token, and each pass keeps a cache of its own

`window` and `state` may say which layers: `:5/6` the first five of each six attention layers (the others see every token),
`window=W:sliding` those that slide already, `window=W:full` those that see every token.

Rewrites are joined by `+`, in any order: `cla=2+mqa` is `mqa+cla=2`. They are applied as they stand above, from the top. They
change self-attention (heads: also cross-attention); recurrent states and layers without a cache stay as they are.
"""

from typing import Final

from msgspec.structs import replace

from kvplan.domain.model import Fact, Latent, Model, Softmax
from kvplan.domain.rewrites import Layers, Rewrite, apply
from kvplan.errors import OptionError, nearest
from kvplan.units import parse_count

_HINT: Final = (
    "rewrites are mha, gqa=K, mqa, mla=RANK+ROPE, state, window=W, full, index=D, cla=N, loop=N, joined as in mqa+cla=2; "
    "`window=1024:5/6` and `state:3/4` are for some of the layers"
)
#: Every rewrite in the order in which they are applied -> an example of its number; empty where it takes none.
_ORDER: Final = {
    "mha": "", "gqa": "4", "mqa": "", "mla": "512+64", "state": "32x128x128", "window": "4096", "full": "", "index": "128",
    "cla": "2", "loop": "2",
}  # fmt: skip
#: At most one of each of these sets in a variant.
_EXCLUSIVE: Final = (("mha", "gqa", "mqa", "mla"), ("window", "full"), *((name,) for name in ("state", "index", "cla", "loop")))
_MOST_AXES: Final = 8


def variant(model: Model, text: str) -> Model:
    """`model` rewritten; its name says how: `llama-3.1-8b [mqa+cla=2]`.

    Raises:
        OptionError: an unknown or contradictory rewrite, a number that does not fit, or a model without attention.

    >>> from kvplan.domain.model import Layer, Softmax
    >>> owned = Softmax(kv_heads=4, key_dim=64, value_dim=64)
    >>> model = Model(name="m", model_type="llama", layers=tuple(Layer(index=i, memories=(owned,)) for i in range(3)))
    >>> [type(layer.memories[0]).__name__ for layer in variant(model, "mqa+cla=2").layers]
    ['Softmax', 'Shared', 'Softmax']
    """
    steps = parse_variant(text)
    if not any(isinstance(m, Softmax | Latent) for layer in model.layers for m in layer.memories):
        raise OptionError(f"variant `{text[:60]}`: {model.name} has no self-attention to rewrite", hint="compare it as it is")
    shown = "+".join(map(str, steps))
    rewritten = model
    for step in steps:
        rewritten = apply(rewritten, step, shown)
    return replace(
        rewritten,
        name=f"{model.name} [{shown}]",
        weights_bytes=None,  # other heads are other weights
        parameters=None,
        origin=rewritten.origin and replace(rewritten.origin, config={}, text_config={}),  # they no longer describe these layers
        provenance=(*model.provenance, Fact("variant", shown, "asked for")),
    )


def parse_variant(text: str) -> tuple[Rewrite, ...]:
    """The steps of a variant, in the order in which they are applied.

    Raises:
        OptionError: empty, unknown, without its number, or contradictory.

    >>> [str(step) for step in parse_variant("cla=2+MQA")], str(parse_variant("window=1k:5/6")[0])
    (['mqa', 'cla=2'], 'window=1024:5/6')
    """
    steps: list[Rewrite] = []
    for part in text.strip().lower().split("+"):
        last = steps[-1] if steps else None
        if last is not None and last.name == "mla" and part.strip().isdecimal():
            steps[-1] = replace(last, rope_dim=_number("mla", part.strip(), minimum=0))
            continue
        steps.append(_parse_step(part.strip(), text))
    for names in _EXCLUSIVE:
        used = [step.name for step in steps if step.name in names]
        if len(used) > 1:
            what = "contradict each other" if used[0] != used[1] else "is given twice"
            said = f"`{used[0]}` and `{used[1]}` {what}" if used[0] != used[1] else f"`{used[0]}` {what}"
            raise OptionError(f"variant `{text[:60]}`: {said}", hint="name one of them")
    order = list(_ORDER)
    return tuple(sorted(steps, key=lambda step: order.index(step.name)))


def _parse_step(part: str, text: str) -> Rewrite:
    said, colon, layers = part.partition(":")
    name, equals, value = said.partition("=")
    if name not in _ORDER:
        near = nearest(name, _ORDER)
        raise OptionError(f"variant: unknown rewrite `{part[:40]}`", hint=f"did you mean `{near}`? {_HINT}" if near else _HINT)
    some = _layers(name, layers, text) if colon else Layers()
    if name == "state":
        return Rewrite(name, shape=_shape(value) if equals else (), layers=some)
    if not _ORDER[name]:
        if equals:
            raise OptionError(f"variant `{text[:60]}`: `{name}` takes no number", hint=_HINT)
        return Rewrite(name)
    if not value:
        raise OptionError(f"variant `{text[:60]}`: `{name}` needs a number, as in `{name}={_ORDER[name]}`", hint=_HINT)
    return Rewrite(name, _number(name, value), rope_dim=64 if name == "mla" else 0, layers=some)


def _layers(name: str, text: str, whole: str) -> Layers:
    """Which layers: `5/6`, or for windows those that slide already or that see everything."""
    first, slash, of = text.partition("/")
    if name in {"window", "state"} and slash and first.isdecimal() and of.isdecimal():
        chosen, period = _number(name, first), _number(name, of)
        if chosen <= period:
            return Layers(chosen=chosen, period=period)
    if name == "window" and text in {"sliding", "full"}:
        return Layers(kind=text)
    words = "`:5/6`, `:sliding` or `:full`" if name == "window" else "`:3/4`" if name == "state" else "nothing"
    raise OptionError(f"variant `{whole[:60]}`: `{name}` takes {words} for its layers, not `:{text[:20]}`", hint=_HINT)


def _shape(text: str) -> tuple[int, ...]:
    """`32x128x128`: the elements of a state."""
    axes = text.split("x")
    if not 1 <= len(axes) <= _MOST_AXES:
        raise OptionError(f"variant state: `{text[:40]}` is no shape", hint="such as state=32x128x128")
    return tuple(_number("state", axis) for axis in axes)


def _number(name: str, text: str, minimum: int = 1) -> int:
    number = parse_count(text, what=f"variant {name}", minimum=minimum)
    if number > 2**31:
        raise OptionError(f"variant {name}: {number:,} is too large", hint=_HINT)
    return number
