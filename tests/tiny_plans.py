"""Random small plans, on one card or a few: members whose caches take kilobytes."""

from hypothesis import strategies as st

from kvplan.domain.gpus import Gpu
from kvplan.domain.ledger import Line
from kvplan.domain.model import Layer, Model, Softmax, Window
from kvplan.domain.origin import Origin
from kvplan.domain.plan import Member, Plan

CARD = Gpu(id="card", vendor="any", arch="", memory_kind="discrete", marketed_gb=(1,), sources=())


def line(amount: int) -> Line:
    return Line(name="line", bytes=amount, basis="given", source="test")


def model(heads: int, layers: int, window: int) -> Model:
    reach = {"reach": Window(window)} if window else {}
    softmax = Softmax(kv_heads=heads, key_dim=16, value_dim=16, **reach)
    config = {
        "model_type": "llama", "num_attention_heads": heads, "num_key_value_heads": heads, "head_dim": 16,
        "hidden_size": 16 * heads, "num_hidden_layers": layers,
    }  # fmt: skip
    return Model(
        name="tiny",
        model_type="llama",
        layers=tuple(Layer(index=i, memories=(softmax,)) for i in range(layers)),
        attention_heads=heads,
        max_tokens=4096,
        origin=Origin(config=config, text_config=config, text_type="llama", source="tiny.json"),
    )


@st.composite
def members(draw: st.DrawFn, number: int, gpus: int = 1) -> Member:
    devices = draw(st.integers(1, gpus))
    named = gpus > 1 and draw(st.integers(0, 4)) == 0
    cards = tuple(sorted(draw(st.permutations(range(gpus)))[:devices])) if named else ()
    # heads that every split divides, and an engine that splits
    heads = draw(st.sampled_from([devices, 2 * devices])) if devices > 1 else draw(st.integers(1, 3))
    return Member(
        name=f"m{number}",
        engine=draw(st.sampled_from(["ideal", "vllm"] if devices > 1 else ["ideal", "vllm", "transformers"])),
        model=model(heads, draw(st.integers(1, 2)), draw(st.sampled_from([0, 0, 64]))),
        weights=line(draw(st.integers(0, 200_000))),
        reserve=line(draw(st.integers(0, 50_000))),
        context=draw(st.integers(100, 600)),
        users=draw(st.integers(1, 4)),
        tensor_parallel=devices,
        cards=cards,
    )


@st.composite
def plans(draw: st.DrawFn, largest_count: int = 3, most_cards: int = 1, fewest: int = 1) -> Plan:
    count, gpus = draw(st.integers(fewest, largest_count)), draw(st.integers(1, most_cards))
    return Plan(
        gpu=CARD,
        memory=line(draw(st.integers(50_000, 1_500_000))),
        reserve=line(draw(st.integers(0, 50_000))),
        members=tuple(draw(members(number, gpus)) for number in range(count)),
        gpus=gpus,
    )
