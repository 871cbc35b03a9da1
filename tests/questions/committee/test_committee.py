"""Several models on one card: the parts add up, the split is the best one, and every complaint names a line."""

import csv
import io
import json
import shlex
from fractions import Fraction
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from golden import GUIDES
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tiny_plans import plans

import kvplan
from kvplan.api.committee import committee
from kvplan.cli.app import main
from kvplan.domain.plan import Plan
from kvplan.loading.plan.read import load_plan
from kvplan.questions.committee.demand import Demand
from kvplan.questions.committee.placing import Node
from kvplan.questions.committee.result import Committee
from kvplan.questions.committee.shares import of_free, of_total
from kvplan.questions.committee.splitting import split
from kvplan.questions.reserve import reserved
from kvplan.units import GIB, MIB

EXAMPLES = ("desk.yaml", "assistant.yaml", "laptop.yaml", "node.yaml")


def brute_force(demands: tuple[Demand, ...], room: int) -> tuple[int, ...] | None:
    """Every split, tried: the largest common factor first, then users in the plan's order."""
    tops = []
    for demand in demands:
        top = 0
        while demand.part_bytes(top + 1) <= room:
            top += 1
        tops.append(range(top + 1))
    possible = [n for n in product(*tops) if sum(d.part_bytes(k) for d, k in zip(demands, n, strict=True)) <= room]
    if not possible:
        return None

    def worth(users: tuple[int, ...]) -> tuple[Any, ...]:
        return (min(Fraction(n, d.member.users or 1) for n, d in zip(users, demands, strict=True)), *users)

    return max(possible, key=worth)


few = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.filter_too_much])  # many plans do not fit


@few
@given(plans())
def test_solve_is_as_good_as_trying_everything(plan: Plan) -> None:
    demands = tuple(Demand(member, plan) for member in plan.members)
    room = plan.memory.bytes - plan.reserve.bytes
    count = 1
    for demand in demands:
        each = max(1, demand.cache_bytes(2) - demand.cache_bytes(1))
        count *= room // each + 2
    assume(count <= 3_000)
    best = brute_force(demands, room)
    assume(best is not None)
    assert split(demands, Node(1, room)) == best


@few
@given(plans(), st.booleans())
def test_the_parts_never_exceed_the_card(plan: Plan, solve: bool) -> None:
    answer = committee(plan, solve=solve)
    for part in answer.parts:
        assert part.weights.bytes + part.reserve.bytes + part.cache_bytes + part.slack_bytes == part.bytes
    total = sum(part.bytes for part in answer.parts) + plan.reserve.bytes
    assert answer.free_bytes == plan.memory.bytes - total
    if answer.fits:
        assert total <= plan.memory.bytes
        assert all(part.slack_bytes >= 0 for part in answer.parts)
        assert all(part.users >= 1 for part in answer.parts)


@few
@given(plans(fewest=2))
def test_a_plan_that_fits_still_fits_with_any_member_removed(plan: Plan) -> None:
    assume(committee(plan).fits)
    for member in plan.members:
        assert committee(replace(plan, members=tuple(m for m in plan.members if m != member))).fits


@few
@given(plans())
def test_the_scale_is_the_largest_that_fits(plan: Plan) -> None:
    scale = committee(plan).scale
    assume(scale is not None)
    assert scale is not None
    assert committee(plan).fits is (scale >= 1)
    if scale:
        assert committee(plan, scale=scale).fits
    assert not committee(plan, scale=scale + Fraction(1, 10**6)).fits


@given(st.integers(0, 2**40), st.integers(1, 2**40))
def test_a_fraction_of_the_total_gives_what_is_needed_and_little_more(needed: int, total: int) -> None:
    text, given_bytes = of_total(needed, total)
    assert needed <= given_bytes == ceil(total * float(text)) <= needed + total // 10_000 + 1


@given(st.integers(0, 2**36), st.integers(0, 2**36), st.integers(1, 2**37), st.booleans())
def test_a_fraction_of_what_is_free_gives_at_most_the_cache(cache: int, kept: int, free: int, before: bool) -> None:
    text = of_free(cache, kept, free, "of free before loading" if before else "of free after loading")
    assume(text)
    share, after = Fraction(text), free - kept
    given_bytes = after - free * (1 - share) if before else after * share
    assert cache - (free if before else after) / 10_000 - 1 <= given_bytes <= cache


def test_a_server_reserves_the_blocks_that_its_users_need() -> None:
    answer = kvplan.committee({"gpu": "h100-80gb", "members": [chat(users=24)]})
    part = answer.parts[0]
    assert part.pool is not None
    assert part.pool.concurrency >= 24
    assert part.allocation is not None
    exact = reserved(part.allocation.model, "vllm", {"max_model_len": 8192}, part.cache_bytes)
    assert isinstance(exact, kvplan.Pool)
    assert exact.usable_bytes == part.allocation.total_bytes
    assert part.ledger is not None
    inside = part.needed_bytes - part.outside_bytes
    assert f"--gpu-memory-utilization {of_total(inside, part.ledger.total.bytes)[0]}" in part.flag
    one_less = kvplan.committee({"gpu": "h100-80gb", "members": [chat(users=23)]})
    assert one_less.parts[0].cache_bytes < part.cache_bytes


def chat(**more: Any) -> dict[str, Any]:
    return {"name": "chat", "model": "llama-3.1-8b", "engine": "vllm", "context": "8k", **more}


def test_a_share_holds_as_many_users_as_it_can() -> None:
    answer = kvplan.committee({"gpu": "h100-80gb", "members": [chat(share=0.5)]})
    part = answer.parts[0]
    assert part.ledger is not None
    assert part.bytes == part.ledger.total.bytes // 2 + part.outside_bytes
    assert "--gpu-memory-utilization 0.5" in part.flag
    fit = kvplan.fit("llama-3.1-8b", "h100-80gb", engine="vllm", context="8k", utilization=0.5)
    assert part.users == fit.batch_size
    asked = kvplan.committee({"gpu": "h100-80gb", "members": [chat(share=0.5, users=part.users)]})
    assert asked.fits
    assert not kvplan.committee({"gpu": "h100-80gb", "members": [chat(share=0.5, users=part.users + 1)]}).fits


def test_engines_that_measure_what_is_free_start_after_fixed_shares_and_growing_ones_last() -> None:
    grows = {"name": "grows", "model": "llama-3.2-1b", "engine": "transformers", "context": "1k", "users": 1}
    free = {"name": "free", "engine": "sglang", "weights": "2GB", "cache": "8GiB", "reserve": "1GiB"}
    answer = kvplan.committee({"gpu": "h100-80gb", "members": [grows, free, chat(users=2)]})
    assert answer.order == ("chat", "free", "grows")
    parts = {part.member.name: part for part in answer.parts}
    before = answer.plan.memory.bytes - parts["chat"].bytes
    share = of_free(8 * GIB, 2 * 10**9 + GIB, before, "of free before loading")
    assert parts["free"].flag == f"--mem-fraction-static {share}"


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_worked_example_fits_and_is_proven_on_the_cpu(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    path = str(GUIDES / example)
    assert main(["committee", path, "-f", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)["committee"]
    assert main(["validate", path, "--device", "cpu", "--limit", "320MiB", "-f", "json"]) == 0
    proven = json.loads(capsys.readouterr().out)["together"]
    assert proven["equal"]
    assert proven["divisor"] > 1
    cached = {m["name"]: m for m in answer["members"] if m["engine"] and m["model"]}
    assert {m["name"] for m in proven["members"]} == set(cached)
    for member in proven["members"]:
        assert member["predicted_bytes"] == member["real_bytes"] > 0
        assert member["batch_size"] == ceil(cached[member["name"]]["users"] / proven["users_divisor"])
        assert member["seq_len"] == max(1, cached[member["name"]]["context"] // proven["divisor"])
    assert sum(m["real_bytes"] for m in proven["members"]) <= 320 * MIB


def test_a_wrong_prediction_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    from kvplan.questions.validate import together
    from kvplan.questions.validate.tensors import tensor_plan as honest

    def dishonest(allocation: Any) -> Any:
        return (replace(honest(allocation)[0], shape=(1,)), *honest(allocation)[1:])

    monkeypatch.setattr(together, "tensor_plan", dishonest)
    assert main(["validate", str(GUIDES / "laptop.yaml"), "--device", "cpu", "--limit", "256MiB"]) == 1
    captured = capsys.readouterr()
    assert "differs" in captured.out
    assert "writer: layer 0" in captured.err


def test_the_python_answer_is_the_command_lines(capsys: pytest.CaptureFixture[str]) -> None:
    for example in EXAMPLES:
        path = str(GUIDES / example)
        answer = kvplan.committee(path)
        assert isinstance(answer, Committee)
        assert main(["committee", path, "-f", "json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"schema": 2, "committee": answer.to_dict()}
        assert main(["committee", path, "-f", "csv"]) == 0
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert [int(row["bytes"]) for row in rows] == [part.bytes for part in answer.parts]


def test_every_change_is_a_command_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(GUIDES / "assistant.yaml")
    for words in (["--set", "chat.users=40"], ["--scale", "2"], ["--gpu", "l40s"]):
        assert main(["committee", path, *words, "-f", "json"]) == 1
        answer = json.loads(capsys.readouterr().out)["committee"]
        assert answer["changes"]
        assert not any(member["flag"] for member in answer["members"])
        for change in answer["changes"]:
            typed = shlex.split(change["command"])
            assert typed[:2] == ["kvplan", "committee"]
            assert main([*typed[1:], "-f", "json"]) == 0, change
            capsys.readouterr()


def test_what_does_not_fit_says_so_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["committee", str(GUIDES / "desk.yaml"), "--scale", "3"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("DOES NOT FIT on rtx-4090-24gb")
    assert "FIX: " in out
    assert "start 1" not in out
    assert main(["committee", str(GUIDES / "desk.yaml"), "-f", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("**FITS on rtx-4090-24gb")


def test_solving_serves_at_least_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    for example in EXAMPLES:
        plan, solved = kvplan.committee(GUIDES / example), kvplan.committee(GUIDES / example, solve=True)
        assert solved.fits
        assert plan.scale is not None
        assert solved.total_bytes >= plan.total_bytes
        for before, after in zip(plan.parts, solved.parts, strict=True):
            assert after.users >= before.users * plan.scale


GOOD = """gpu: h100-80gb
members:
  - name: chat
    model: llama-3.1-8b
    engine: vllm
    context: 8k
    users: 4
"""
BAD = [
    ("model: llama-3.1-8b", "model: lama-3.1-8b", 4, "did you mean `llama-3.1-8b`"),
    ("engine: vllm", "engine: vlm", 5, "did you mean `vllm`"),
    ("engine: vllm", "engine: mlc-llm", 5, "unknown engine"),
    ("    engine: vllm\n", "", 3, "needs `engine`"),
    ("gpu: h100-80gb", "gpu: h1000", 1, "unknown GPU"),
    ("gpu: h100-80gb", "gpu: apple-m3-max", 1, "--memory"),
    ("users: 4", "users: -4", 7, "at least 1"),
    ("users: 4", "users: many", 7, "at least 1"),
    ("users: 4", "share: 1.5", 7, "at most 1"),
    ("users: 4", "share: -0.1", 7, "at most 1"),
    ("users: 4", "user: 4", 7, "did you mean `users`"),
    ("    users: 4\n", "", 3, "needs `users`"),
    ("    context: 8k\n", "", 3, "needs `context`"),
    ("context: 8k", "context: 8kb", 6, "whole number"),
    ("    users: 4\n", "    users: 4\n    reserve: 4\n", 8, "size with its unit"),
    ("    users: 4\n", "    users: 4\n    kv_dtype: fp9\n", 8, "fp9"),
    ("    users: 4\n", "    users: 4\n    options: {block_sise: 1}\n", 8, "did you mean `block_size`"),
    ("    users: 4\n", "    users: 4\n    options: {block_size: [1]}\n", 8, "plain values"),
    ("    users: 4\n", "    users: 4\n    weights_dtype: fp9\n", 8, "unknown format"),
    ("    users: 4\n", "    users: 4\n    cache: 1GiB\n", 7, "two answers"),
    ("model: llama-3.1-8b", "model: bartowski/Meta-Llama-3.1-8B-Instruct-GGUF", 4, "weights: 16GB"),
    ("    model: llama-3.1-8b\n", "", 3, "needs `model`"),
    ("    users: 4\n", "    users: 4\n  - {name: chat, weights: 1GB}\n", 8, "taken by another member"),
    ("    users: 4\n", "    share: 0.6\n  - {name: b, weights: 1GB, share: 0.5}\n", 8, "add up to 1.1"),
    ("members:\n", "include: plan.yaml\nmembers:\n", 2, "goes in a circle"),
    ("members:\n", "include: none.yaml\nmembers:\n", 2, "cannot read"),
    ("members:\n", "include: {a: b}\nmembers:\n", 2, "file name"),
    ("gpu: h100-80gb\n", "", 1, "needs `gpu`"),
    ("users: 4", "users: *four", 7, "anchor"),
    ("name: chat", "name: &x chat", 3, "anchor"),
    ("gpu: h100-80gb", "gpu: [h100]", 1, "text"),
    ("members:", "member:", 2, "did you mean `members`"),
]


@pytest.mark.parametrize(("old", "new", "number", "said"), BAD, ids=[f"{new.strip()[:40]}" for _, new, _, _ in BAD])
def test_a_bad_plan_gets_one_error_that_names_the_line(
    old: str, new: str, number: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    assert main(["committee", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert f"plan.yaml:{number}:" in err
    assert said in err


def test_a_plan_may_be_put_together_from_files(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "one.yaml").write_text("include: two.yaml\nmembers:\n  - {name: one, weights: 1GB, reserve: 0}\n")
    (tmp_path / "parts" / "two.yaml").write_text("members:\n  - {name: two, weights: 2GB, reserve: 0}\n")
    path = tmp_path / "plan.yaml"
    path.write_text("gpu: l4\ninclude: [parts/one.yaml]\nmembers:\n  - {name: three, weights: 3GB, reserve: 0}\n")
    assert [m.name for m in load_plan(path).members] == ["two", "one", "three"]
    assert kvplan.committee(path).total_bytes == 6 * 10**9
    (tmp_path / "parts" / "two.yaml").write_text("include: ../plan.yaml\n")
    with pytest.raises(kvplan.InputError, match=r"two\.yaml:1: `include` goes in a circle"):
        load_plan(path)


def test_includes_are_bounded(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"{i}.yaml").write_text(f"gpu: l4\ninclude: {i + 1}.yaml\n" if i == 0 else f"include: {i + 1}.yaml\n")
    with pytest.raises(kvplan.InputError, match="nested too deeply"):
        load_plan(tmp_path / "0.yaml")
    many = "".join(f"  - {{name: m{i}, weights: 1GB}}\n" for i in range(65))
    (tmp_path / "many.yaml").write_text(f"gpu: l4\nmembers:\n{many}")
    with pytest.raises(kvplan.InputError, match="at most 64"):
        load_plan(tmp_path / "many.yaml")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "chat"], "MEMBER.KEY=VALUE"),
        (["--set", "chat=4"], "MEMBER.KEY=VALUE"),
        (["--set", "chatt.users=4"], "did you mean `chat`"),
        (["--set", "chat.user=4"], "did you mean `users`"),
        (["--set", "chat.users=1", "--set", "chat.users=2"], "twice"),
        (["--scale", "0"], "above 0"),
        (["--scale", "x"], "above 0"),
        (["--scale", "1/0"], "above 0"),
        (["--gpu", "h1000"], "unknown GPU"),
        (["--memory", "80"], "size with its unit"),
    ],
)
def test_bad_options_get_one_error(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(GOOD)
    assert main(["committee", str(path), *words]) == 2
    assert said in capsys.readouterr().err


words = st.sampled_from(
    ["gpu", "members", "name", "model", "engine", "users", "share", "cache", "weights", "include", "options", "cards",
     "tensor_parallel", "h100-80gb:4", "8k", "16GB", "0",
     "-1", "vllm", "ideal", "h100", "llama-3.1-8b", "null", "true", "[", "]", "{", "}", ":", "- ", "\n", "  ", "&a", "*a",
     "!!python", "'", '"', "#", "\t", "1e999", "99999999999999999999", "\x00", "---", "<<"]
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(GOOD)), st.integers(0, 30), st.lists(words, max_size=4).map("".join))
def test_a_mangled_plan_is_answered_or_refused(at: int, removed: int, noise: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.yaml"
        path.write_text(GOOD[:at] + noise + GOOD[at + removed :], encoding="utf-8")
        assert main(["committee", str(path)]) in {0, 1, 2}


def test_a_server_with_several_pools_gets_what_the_fullest_of_them_needs(tmp_path: Path) -> None:
    """gpt-oss on SGLang has a full and a sliding pool in a fixed ratio: the bytes of its rows alone would hold fewer users."""
    path = tmp_path / "plan.yaml"
    members = [{"name": "oss", "model": "gpt-oss-20b", "engine": "sglang", "context": "16k", "users": 4}]
    path.write_text(json.dumps({"gpu": "h100-80gb", "members": members}), encoding="utf-8")
    answer = committee(load_plan(path))
    (part,) = answer.parts
    assert answer.fits
    assert part.pool is not None
    assert part.pool.num_tokens >= 4 * 16_384
    assert part.allocation is not None
    assert part.cache_bytes > 1.5 * part.allocation.total_bytes
    assert part.pool.budget_bytes >= part.cache_bytes
