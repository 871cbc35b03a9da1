"""Several models on a node: the placement is exact, every card's parts add up, and members split as their engine splits."""

import json
import shlex
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import golden
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tiny_plans import plans

import kvplan
from kvplan.api.committee import committee
from kvplan.cli.app import main
from kvplan.domain.budget import share_of_weights
from kvplan.domain.plan import Plan
from kvplan.questions.committee.demand import Demand
from kvplan.questions.committee.placing import Item, Node, TooLong, _Search, loads_of, place
from kvplan.questions.committee.shares import of_free
from kvplan.questions.committee.splitting import split
from kvplan.units import GIB

NODE = golden.GUIDES / "node.yaml"
few = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.filter_too_much])  # many plans do not fit


@st.composite
def items(draw: st.DrawFn, cards: int) -> Item:
    devices = draw(st.integers(1, cards))
    pinned = tuple(sorted(draw(st.permutations(range(cards)))[:devices])) if draw(st.integers(0, 5)) == 0 else ()
    return Item(bytes=draw(st.integers(0, 12)), devices=devices, pinned=pinned)


def every_placement(given_items: Sequence[Item], cards: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    yield from product(*([i.pinned] if i.pinned else list(combinations(range(cards), i.devices)) for i in given_items))


@settings(deadline=None, max_examples=400)
@given(st.data(), st.integers(1, 4), st.integers(0, 30))
def test_a_placement_is_found_whenever_there_is_one(data: st.DataObject, cards: int, room: int) -> None:
    asked = data.draw(st.lists(items(cards), max_size=5))
    found = place(asked, cards, room)
    possible = any(max(loads_of(asked, where, cards)) <= room for where in every_placement(asked, cards))
    assert (found is not None) is possible
    assert (_Search(asked, cards, room).found() is not None) is possible  # where spreading out is no help
    if found is not None:
        assert max(loads_of(asked, found, cards)) <= room
        for item, where in zip(asked, found, strict=True):
            assert len(set(where)) == item.devices
            assert list(where) == sorted(where)
            assert item.pinned in ((), where)


def test_what_spreading_out_cannot_place_is_still_placed() -> None:
    sizes = [6, 5, 5, 4, 4, 3, 3]  # 15 a card only as 6+5+4 and 5+4+3+3
    found = place([Item(bytes=n) for n in sizes], 2, 15)
    assert found is not None
    assert loads_of([Item(bytes=n) for n in sizes], found, 2) == [15, 15]


def test_the_search_looks_beyond_the_fullest_card() -> None:
    asked = [Item(bytes=n) for n in (5, 4, 4, 3, 2, 2)]  # 10 a card only as 5+3+2 and 4+4+2
    found = _Search(asked, 2, 10).found()
    assert found is not None
    assert loads_of(asked, found, 2) == [10, 10]


def test_a_search_without_end_is_given_up_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [Item(bytes=n) for n in (6, 5, 5, 4, 4, 3, 3)]
    monkeypatch.setattr("kvplan.questions.committee.placing._MOST_TRIED", 2)
    with pytest.raises(TooLong, match="too long a search"):
        place(asked, 2, 15)
    node = Node(2, 15)
    assert not node.holds(asked)
    assert node.gave_up
    monkeypatch.setattr("kvplan.questions.committee.placing._MOST_TRIED", 0)
    members = [{"name": f"m{n}", "weights": f"{n}GB", "reserve": 0} for n in (30, 25, 26, 20, 21, 15, 14)]
    answer = kvplan.committee({"gpu": "h100-80gb:2", "memory": "100GB", "members": [*members, chat(users=1, weights=0)]})
    assert answer.fits
    assert not answer.exact
    assert any("not every placement was tried" in note for note in answer.notes)
    assert kvplan.committee(NODE).exact


@few
@given(plans(4, most_cards=3), st.booleans())
def test_the_parts_never_exceed_their_cards(plan: Plan, solve: bool) -> None:
    answer = committee(plan, solve=solve)
    for card in answer.cards:
        here = [part for part in answer.parts if card.index in part.cards]
        assert card.members == tuple(part.member.name for part in here)
        assert card.taken_bytes == sum(part.bytes for part in here)
        assert card.taken_bytes + card.free_bytes + plan.reserve.bytes == plan.memory.bytes
        if answer.fits:
            assert card.free_bytes >= 0
    assert answer.free_bytes == sum(card.free_bytes for card in answer.cards)
    for part in answer.parts:
        assert len(part.cards) == part.member.devices
        assert part.member.cards in ((), part.cards)
        assert part.weights.bytes + part.reserve.bytes + part.cache_bytes + part.slack_bytes == part.bytes


@few
@given(plans(4, most_cards=3, fewest=2))
def test_a_plan_that_fits_still_fits_with_any_member_removed(plan: Plan) -> None:
    assume(committee(plan).fits)
    for member in plan.members:
        assert committee(replace(plan, members=tuple(m for m in plan.members if m != member))).fits


@few
@given(plans(3, most_cards=3))
def test_the_scale_is_the_largest_that_fits(plan: Plan) -> None:
    scale = committee(plan).scale
    assume(scale is not None)
    assert scale is not None
    assert committee(plan).fits is (scale >= 1)
    if scale:
        assert committee(plan, scale=scale).fits
    assert not committee(plan, scale=scale + Fraction(1, 10**6)).fits


@few
@given(plans(3, most_cards=3))
def test_solve_is_as_good_as_trying_every_split_and_every_placement(plan: Plan) -> None:
    demands = tuple(Demand(member, plan) for member in plan.members)
    room, tops = plan.room_bytes, []
    for demand in demands:
        top = 0
        while demand.part_bytes(top + 1) <= room:
            top += 1
        tops.append(range(top + 1))
    tries = 1
    for top in tops:
        tries *= len(top)
    assume(tries <= 400)

    def fits(users: tuple[int, ...]) -> bool:
        asked = [d.item(n) for d, n in zip(demands, users, strict=True)]
        return any(max(loads_of(asked, where, plan.gpus)) <= room for where in every_placement(asked, plan.gpus))

    possible = [users for users in product(*tops) if fits(users)]
    assume(possible)

    def worth(users: tuple[int, ...]) -> tuple[Any, ...]:
        return (min(Fraction(n, d.member.users or 1) for n, d in zip(users, demands, strict=True)), *users)

    assert split(demands, Node(plan.gpus, room)) == max(possible, key=worth)


def chat(**more: Any) -> dict[str, Any]:
    return {"name": "chat", "model": "llama-3.1-8b", "engine": "vllm", "context": "8k", "users": 4, **more}


def test_a_node_of_one_card_is_that_card() -> None:
    one, node = (kvplan.committee({"gpu": gpu, "members": [chat()]}).to_dict() for gpu in ("h100-80gb", "h100-80gb:1"))
    assert one == node


def test_a_member_that_is_split_has_a_share_of_weights_and_heads_on_each_card() -> None:
    answer = kvplan.committee({"gpu": "h100-80gb:4", "members": [chat(tensor_parallel=2)]})
    part = answer.parts[0]
    whole = kvplan.committee({"gpu": "h100-80gb", "members": [chat()]}).parts[0]
    assert part.cards == (0, 1)
    half = share_of_weights(whole.weights, 2).bytes
    assert half <= part.weights.bytes < 1.01 * half  # norms and rotary tables are on each card
    assert part.allocation is not None
    assert whole.allocation is not None
    assert 2 * part.allocation.total_bytes == whole.allocation.total_bytes
    estimate = kvplan.estimate("llama-3.1-8b", seq_len=8192, batch_size=4, engine="vllm", tensor_parallel=2)
    assert part.allocation.total_bytes == estimate.total_bytes
    assert "--tensor-parallel-size 2" in part.flag
    assert part.environment == "CUDA_VISIBLE_DEVICES=0,1"
    assert answer.total_bytes == 2 * part.bytes
    assert [card.members for card in answer.cards] == [("chat",), ("chat",), (), ()]


def test_pipeline_stages_are_cards_too() -> None:
    answer = kvplan.committee({"gpu": "h100-80gb:4", "members": [chat(tensor_parallel=2, options={"pipeline_parallel_size": 2})]})
    part = answer.parts[0]
    assert part.cards == (0, 1, 2, 3)
    assert "--tensor-parallel-size 2 --pipeline-parallel-size 2" in part.flag
    quarter = -(-part.member.weights.bytes // 4)
    assert quarter <= part.weights.bytes < 1.02 * quarter


def test_cards_that_are_named_are_taken() -> None:
    small = {"name": "small", "engine": "sglang", "weights": "2GB", "cache": "8GiB", "reserve": "1GiB"}
    answer = kvplan.committee({"gpu": "mi300x:4", "members": [chat(tensor_parallel=2, cards=[1, 3]), {**small, "cards": 3}]})
    assert [part.cards for part in answer.parts] == [(1, 3), (3,)]
    assert [part.environment for part in answer.parts] == ["HIP_VISIBLE_DEVICES=1,3", "HIP_VISIBLE_DEVICES=3"]


def test_an_engine_that_measures_what_is_free_goes_by_its_fullest_card() -> None:
    wide = {"name": "wide", "engine": "sglang", "weights": "20GB", "cache": "8GiB", "reserve": "1GiB", "tensor_parallel": 2}
    answer = kvplan.committee({"gpu": "h100-80gb:2", "members": [wide, chat(cards=1)]})
    parts = {part.member.name: part for part in answer.parts}
    before = answer.plan.memory.bytes - parts["chat"].bytes
    share = of_free(8 * GIB, 10 * 10**9 + GIB, before, "of free before loading")
    assert parts["wide"].flag == f"--mem-fraction-static {share} --tp-size 2"


def test_shares_are_of_each_card() -> None:
    answer = kvplan.committee({"gpu": "h100-80gb:2", "members": [chat(users=None, share=0.75), chat(name="b", share=0.75)]})
    assert answer.fits
    assert [part.cards for part in answer.parts] == [(0,), (1,)]


def test_parts_that_fit_by_bytes_but_on_no_card_do_not_fit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("gpu: l4:2\nmembers:\n" + "".join(f"  - {{name: m{i}, weights: 14GB, reserve: 0}}\n" for i in range(3)))
    assert main(["committee", str(path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("DOES NOT FIT on 2 x l4-24gb")
    assert "too much for one card, however they are placed" in " ".join(out.split())
    assert "a larger card (2 x" in out
    assert "more cards (4 x l4-24gb)" in out


def test_splitting_and_more_cards_are_offered_as_commands_that_fit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    member = "  - {name: chat, model: llama-3.1-70b, weights_dtype: fp8, engine: vllm, context: 8k, users: 8}\n"
    for gpu, offered in (("h100-80gb:2", "chat: split over 2 cards"), ("h100-80gb", "chat split over them")):
        path.write_text(f"gpu: {gpu}\nmembers:\n{member}")
        assert main(["committee", str(path), "--memory", "70GiB", "-f", "json"]) == 1
        changes = json.loads(capsys.readouterr().out)["committee"]["changes"]
        assert any(offered in change["change"] for change in changes), changes
        for change in changes:
            assert main([*shlex.split(change["command"])[1:], "-f", "json"]) == 0, change
            capsys.readouterr()


def test_lighter_weights_are_offered_to_a_member_that_is_split() -> None:
    member = chat(model="llama-3.1-70b", tensor_parallel=2, users=12)
    answer = kvplan.committee({"gpu": "h100-80gb:2", "members": [member]})
    assert not answer.fits
    offered = [change.change for change in answer.changes]
    assert "chat: weights in fp8" in offered
    assert "more cards (4 x h100-sxm-80gb), chat split over them" in offered


def test_the_node_of_the_guide_says_where_everything_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["committee", str(NODE)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("FITS on 4 x h100-sxm-80gb")
    assert "CUDA_VISIBLE_DEVICES=0,1 vllm serve" in out
    assert "figures of each card" in out
    assert main(["committee", str(NODE), "--gpu", "h100-80gb:1"]) == 2
    assert "chat takes 2 cards, and there is one card" in capsys.readouterr().err


def test_every_card_of_a_node_is_proven_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    assert main(["validate", str(NODE), "--device", "cpu", "--limit", "256MiB", "-f", "json"]) == 0
    proven = json.loads(capsys.readouterr().out)["together"]
    assert proven["equal"]
    placed = [(m["name"], m["card"]) for m in proven["members"]]
    answer = kvplan.committee(NODE)
    assert placed == [(part.member.name, card) for part in answer.parts if part.allocation for card in part.cards]


def test_one_gpu_of_a_node_stands_for_the_card_of_its_number() -> None:
    pytest.importorskip("torch")
    from kvplan.questions.validate.together import cards_on

    answer = kvplan.committee(NODE)
    devices: list[Any] = [SimpleNamespace(index=index, name=f"cuda:{index}") for index in (None, 2, 4)]
    assert cards_on(answer, devices[0]) == (0, 1, 2, 3)
    assert cards_on(answer, devices[1]) == (2,)
    with pytest.raises(kvplan.InputError, match="stands for card 4, and the plan has 4"):
        cards_on(answer, devices[2])
    assert cards_on(kvplan.committee({"gpu": "l4", "members": [chat(context="1k")]}), devices[1]) == (0,)


GOOD = """gpu: h100-80gb:4
members:
  - name: chat
    model: llama-3.1-8b
    engine: vllm
    context: 8k
    users: 4
"""
BAD = [
    ("h100-80gb:4", "h100-80gb:0", 1, "at least 1"),
    ("h100-80gb:4", "h100-80gb:x", 1, "whole number"),
    ("h100-80gb:4", "h100-80gb:1000", 1, "at most 128"),
    ("users: 4", "users: 4\n    tensor_parallel: 8", 8, "chat takes 8 cards, and there are 4 cards"),
    ("users: 4", "users: 4\n    tensor_parallel: 3", 8, "do not divide by"),
    ("users: 4", "users: 4\n    tensor_parallel: 0", 8, "at least 1"),
    ("users: 4", "users: 4\n    cards: 4", 8, "the first card is 0"),
    ("users: 4", "users: 4\n    cards: [0, 0]", 8, "each card once"),
    ("users: 4", "users: 4\n    cards: []", 8, "each card once"),
    ("users: 4", "users: 4\n    cards: [0, 1]", 8, "names 2 of the cards and takes 1"),
    ("users: 4", "users: 4\n    cards: {a: 1}", 8, "must be an integer"),
    ("users: 4", "users: 4\n    cards: -1", 8, "from 0 to"),
    ("users: 4", "users: 4\n    options: {tensor_parallel_size: 2}", 8, "write `tensor_parallel: 2`"),
    ("engine: vllm", "engine: llama.cpp\n    tensor_parallel: 2", 6, "does not split a model over cards"),
    ("users: 4\n", "share: 0.6\n    cards: 1\n  - {name: b, weights: 1GB, share: 0.5, cards: 1}\n", 9, "add up to 1.1 of card 1"),
    (
        "users: 4\n",
        "share: 0.9\n    tensor_parallel: 4\n  - {name: b, weights: 1GB, share: 0.5}\n",
        9,
        "add up to 4.1, which is more than the 4 cards",
    ),
]


@pytest.mark.parametrize(("old", "new", "number", "said"), BAD, ids=[new[-40:] for _, new, _, _ in BAD])
def test_a_bad_node_gets_one_error_that_names_the_line(
    old: str, new: str, number: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    assert main(["committee", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert f"plan.yaml:{number}:" in err
    assert said in err


def test_includes_stay_in_the_plans_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.yaml").write_text("members:\n  - {name: one, weights: 1GB}\n")
    (tmp_path / "plans").mkdir()
    path = tmp_path / "plans" / "plan.yaml"
    for name in ("../other.yaml", str(tmp_path / "other.yaml")):
        path.write_text(f"gpu: l4\ninclude: {name}\n")
        assert main(["committee", str(path)]) == 2
        err = capsys.readouterr().err
        assert "plan.yaml:2:" in err
        assert "leads out of the plan's folder" in err
