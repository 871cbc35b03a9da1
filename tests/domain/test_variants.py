"""What-if rewrites: laws over random models, and the words of every refusal."""

import pytest
from each import each
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import models, tokens

import kvplan
from kvplan.domain.model import Chunk, Full, Index, Latent, Layer, Loop, Memory, Model, Recurrent, Shared, Softmax, State, Window
from kvplan.domain.variants import parse_variant, variant
from kvplan.domain.workload import Workload
from kvplan.errors import OptionError
from kvplan.questions.estimate import plan

HEAD = Softmax(kv_heads=8, key_dim=128, value_dim=128)
LOCAL = Softmax(kv_heads=8, key_dim=128, value_dim=128, reach=Window(1024))


def model_of(*kept: Memory | tuple[Memory, ...], heads: int | None = 32) -> Model:
    layers = tuple(Layer(index=i, memories=m if isinstance(m, tuple) else (m,)) for i, m in enumerate(kept))
    return Model(name="m", model_type="llama", layers=layers, attention_heads=heads)


def total(model: Model, seq_len: int = 4096) -> int:
    return plan(model, Workload(batch_size=2, seq_len=seq_len)).total_bytes


def sources(model: Model) -> list[int | None]:
    """Each layer's source, None where it owns or keeps nothing."""
    return [next((m.source for m in layer.memories if isinstance(m, Shared)), None) for layer in model.layers]


has_attention = models.filter(lambda m: any(isinstance(x, Softmax | Latent) for layer in m.layers for x in layer.memories))
has_heads = has_attention.filter(lambda m: m.attention_heads is not None)


@given(has_attention, tokens)
def test_sharing_with_nobody_changes_nothing(model: Model, seq_len: int) -> None:
    same = variant(model, "cla=1")
    assert same.layers == model.layers
    assert total(same, seq_len) == total(model, seq_len)


@given(has_attention, tokens, st.integers(1, 9))
def test_sharing_never_costs_bytes(model: Model, seq_len: int, factor: int) -> None:
    assert total(variant(model, f"cla={factor}"), seq_len) <= total(model, seq_len)


@given(has_attention, st.integers(1, 9))
def test_every_source_owns_what_its_readers_gave_up(model: Model, factor: int) -> None:
    rewritten = variant(model, f"cla={factor}")
    for before, after in zip(model.layers, rewritten.layers, strict=True):
        owned = [m for m in before.memories if isinstance(m, Softmax | Latent)]
        if owned and not any(isinstance(m, Softmax | Latent) for m in after.memories):
            new = [m.source for m in after.memories if isinstance(m, Shared)]
            kept = [[m for m in rewritten.layers[s].memories if isinstance(m, Softmax | Latent)] for s in new]
            assert owned in kept


@settings(suppress_health_check=[HealthCheck.filter_too_much])  # most random models have no heads to divide
@given(has_heads, tokens)
def test_fewer_kv_heads_never_cost_more(model: Model, seq_len: int) -> None:
    assert model.attention_heads is not None
    divisors = [k for k in range(1, model.attention_heads + 1) if model.attention_heads % k == 0]
    totals = [total(variant(model, f"gqa={k}"), seq_len) for k in divisors]
    assert totals == sorted(totals)
    assert total(variant(model, "mqa"), seq_len) == totals[0]
    assert total(variant(model, "mha"), seq_len) == totals[-1]


@given(has_attention, tokens, st.integers(1, 5000))
def test_a_window_never_costs_bytes_and_a_long_one_changes_none(model: Model, seq_len: int, size: int) -> None:
    assert total(variant(model, f"window={size}"), seq_len) <= total(model, seq_len)
    assert total(variant(model, f"window={2**30}"), seq_len) == total(model, seq_len)


@given(has_attention, st.sampled_from(["mqa", "window=64", "mqa+window=8"]))
def test_a_rewrite_done_twice_is_done_once(model: Model, text: str) -> None:
    once = variant(model, text)
    assert variant(once, text).layers == once.layers


@given(models, st.text("mhagqcl=+1234 windowfu", max_size=20))
def test_any_text_is_a_variant_or_a_sentence(model: Model, text: str) -> None:
    try:
        answer = variant(model, text).name
    except OptionError as problem:
        answer = f"{model.name}: {problem.hint}" if str(problem) and problem.hint else ""
    assert answer.startswith(model.name)


def test_every_second_layer_shares_the_one_before_and_a_last_group_is_short() -> None:
    assert sources(variant(model_of(*[HEAD] * 5), "cla=2")) == [None, 0, None, 2, None]
    assert sources(variant(model_of(*[HEAD] * 5), "cla=3")) == [None, 0, 0, None, 3]


def test_only_layers_that_remember_the_same_share() -> None:
    # five sliding layers to one full: a full layer cannot read what a sliding one has dropped
    model = model_of(LOCAL, LOCAL, HEAD, LOCAL, LOCAL, HEAD)
    assert sources(variant(model, "cla=2")) == [None, 0, None, None, 3, 2]


def kinds(model: Model) -> list[str]:
    """Each layer's memories by name, a window with its size."""
    return ["+".join(_word(memory) for memory in layer.memories) for layer in model.layers]


def _word(memory: Memory) -> str:
    reach = getattr(memory, "reach", None)
    return f"{type(memory).__name__} {reach.size}" if isinstance(reach, Window) else type(memory).__name__


def test_a_window_for_some_of_the_layers_and_all_others_see_everything() -> None:
    assert kinds(variant(model_of(*[HEAD] * 7), "window=64:2/3")) == ["Softmax 64", "Softmax 64", "Softmax"] * 2 + ["Softmax 64"]
    # a pattern is the whole model's: windows that were there before go
    assert kinds(variant(model_of(LOCAL, HEAD, LOCAL), "window=64:1/3")) == ["Softmax 64", "Softmax", "Softmax"]
    # states are not counted
    state = Recurrent(states=(State(name="ssm", shape=(4, 8)),))
    assert kinds(variant(model_of(HEAD, state, HEAD), "window=64:1/2")) == ["Softmax 64", "Recurrent", "Softmax"]


def test_a_window_for_the_layers_that_slide_already_or_for_those_that_do_not() -> None:
    model = model_of(LOCAL, HEAD, LOCAL)
    assert kinds(variant(model, "window=4096:sliding")) == ["Softmax 4096", "Softmax", "Softmax 4096"]
    assert kinds(variant(model, "window=64:full")) == ["Softmax 1024", "Softmax 64", "Softmax 1024"]
    with pytest.raises(OptionError, match=r"no such layer \(`window=64:sliding`\)"):
        variant(model_of(HEAD), "window=64:sliding")


def test_states_take_the_place_of_keys_and_values() -> None:
    rewritten = variant(model_of(*[HEAD] * 4), "state:3/4")
    assert kinds(rewritten) == ["Recurrent"] * 3 + ["Softmax"]
    assert rewritten.layers[0].memories == (
        Recurrent(states=(State(name="state", shape=(32, 128, 128), dtype="float32"),), kind="linear"),
    )
    own = variant(model_of(*[HEAD] * 2), "state=8x16:1/2").layers[0].memories[0]
    assert isinstance(own, Recurrent)
    assert own.states[0].shape == (8, 16)
    with pytest.raises(OptionError, match="layer 0 of m is read by another"):
        variant(model_of(HEAD, Shared(source=0)), "state")


def test_an_indexer_stands_beside_keys_and_values_and_reaches_as_far() -> None:
    assert variant(model_of(LOCAL), "index=128").layers[0].memories == (LOCAL, Index(dim=128, reach=Window(1024)))
    assert variant(model_of((HEAD, Index(dim=8))), "index=128").layers[0].memories == (HEAD, Index(dim=128))


def test_a_loop_keeps_a_cache_for_each_pass() -> None:
    looped = variant(model_of(HEAD, Shared(source=0)), "loop=3")
    assert sources(looped) == [None, 0, None, 2, None, 4]
    assert looped.loop == Loop(first=0, stop=2, passes=3)
    assert total(looped) == 3 * total(model_of(HEAD, Shared(source=0)))
    with pytest.raises(OptionError, match="run several times already"):
        variant(looped, "loop=2")
    with pytest.raises(OptionError, match=r"are more than 10,000"):
        variant(model_of(HEAD), "loop=10001")


@given(st.permutations(["gqa=2", "window=64:2/3", "index=16", "cla=2", "loop=2", "state:1/5"]))
def test_the_order_in_which_rewrites_are_typed_changes_nothing(parts: list[str]) -> None:
    model = model_of(*[HEAD] * 12)
    first = variant(model, "gqa=2+state:1/5+window=64:2/3+index=16+cla=2+loop=2")
    again = variant(model, "+".join(parts))
    assert again == first
    assert again.name == "m [gqa=2+state:1/5+window=64:2/3+index=16+cla=2+loop=2]"


def test_a_latents_two_numbers_stand_anywhere() -> None:
    model = model_of(*[HEAD] * 4)
    assert variant(model, "cla=2+mla=512+64") == variant(model, "mla=512+64+cla=2")


def test_states_stay_where_they_are() -> None:
    state = Recurrent(states=(State(name="ssm", shape=(4, 8)),), kind="mamba2")
    model = model_of((HEAD, state), state, (HEAD, state))
    rewritten = variant(model, "cla=2")
    assert rewritten.layers[2].memories == (Shared(source=0), state)
    assert rewritten.layers[1].memories == (state,)


def test_readers_follow_a_source_that_now_shares() -> None:
    assert sources(variant(model_of(HEAD, HEAD, Shared(source=1)), "cla=2")) == [None, 0, 0]


def test_a_latent_becomes_heads_and_heads_become_a_latent() -> None:
    latent = Latent(rank=512, rope_dim=64, heads=128, nope_dim=128, value_dim=128)
    model = model_of(latent, heads=128)
    assert variant(model, "mha").layers[0].memories == (Softmax(kv_heads=128, key_dim=192, value_dim=128),)
    assert variant(model_of(HEAD), "mla=512").layers[0].memories == (
        Latent(rank=512, rope_dim=64, heads=32, nope_dim=128, value_dim=128),
    )


def test_full_lifts_windows_and_chunks() -> None:
    chunked = Softmax(kv_heads=8, key_dim=128, value_dim=128, reach=Chunk(64))
    assert {m for layer in variant(model_of(LOCAL, chunked), "full").layers for m in layer.memories} == {HEAD}
    assert HEAD.reach == Full()


def test_the_name_says_what_was_rewritten() -> None:
    rewritten = kvplan.variant(model_of(HEAD), " MQA + CLA=2 ")
    assert rewritten.name == "m [mqa+cla=2]"
    assert rewritten.provenance[-1].key == "variant"
    assert any("no released engine reads such a map" in note for note in rewritten.notes)
    assert str(parse_variant("mla=512+32")[0]) == "mla=512+32"


@each(
    ("text", "message", "hint"),
    [
        ("mqq", "variant: unknown rewrite `mqq`", "did you mean `mqa`?"),
        ("", "variant: unknown rewrite ``", "rewrites are"),
        ("cla", "`cla` needs a number", "rewrites are"),
        ("cla=0", "variant cla: expected a whole number of at least 1, got `0`", "8k"),
        ("mqa=2", "`mqa` takes no number", "rewrites are"),
        ("mqa+gqa=4", "`mqa` and `gqa` contradict each other", "name one"),
        ("window=64+full", "`window` and `full` contradict each other", "name one"),
        ("gqa=5", "5 KV heads do not divide the 32 query heads of m", "1, 2, 4, 8, 16, 32"),
        ("gqa=99999999999", "is too large", "rewrites are"),
        ("cla=2+cla=3", "`cla` is given twice", "name one"),
        ("window=64:7/6", "`window` takes `:5/6`, `:sliding` or `:full`", "rewrites are"),
        ("window=64:0/6", "variant window: expected a whole number of at least 1", "8k"),
        ("window=64:", "for its layers, not `:`", "rewrites are"),
        ("cla=2:1/2", "`cla` takes nothing for its layers", "rewrites are"),
        ("state=axb", "variant state", ""),
        ("state=1x1x1x1x1x1x1x1x1", "is no shape", "state=32x128x128"),
        ("loop", "`loop` needs a number, as in `loop=2`", "rewrites are"),
    ],
)
def test_a_wrong_rewrite_is_one_sentence_and_a_hint(text: str, message: str, hint: str) -> None:
    with pytest.raises(OptionError) as caught:
        variant(model_of(HEAD), text)
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_heads_are_not_guessed() -> None:
    with pytest.raises(OptionError, match="does not say how many query heads"):
        variant(model_of(HEAD, heads=None), "mha")


def test_a_model_without_attention_is_refused() -> None:
    with pytest.raises(OptionError, match="no self-attention"):
        variant(model_of(Recurrent(states=(State(name="ssm", shape=(4,)),))), "mqa")
