"""Data ranks of vLLM: attention whole on each, routed experts spread over all of them. From source: no start was recorded."""

from math import prod

from each import each

import kvplan
from kvplan.api.fit import questions_of
from kvplan.api.memory import known_weights
from kvplan.architectures.describe import describe
from kvplan.engines.vllm.ledger.tensors import Rank, modules, whole_shared
from kvplan.questions.fit.budget import budget_of

MODELS = ("deepseek-v3", "qwen3-30b-a3b", "mixtral-8x7b")  # no biases, which stay whole


def elements(model: str, rank: Rank) -> tuple[int, int, int]:
    """Of routed experts, of shared ones, and of the rest, on one rank."""
    described = describe(kvplan.load(model), None)
    assert described is not None
    found = [0, 0, 0]
    for group in modules(described.parameters, rank):
        for tensor in group:
            kind = 0 if tensor.parameter.experts else 1 if "shared_expert" in tensor.name else 2
            found[kind] += prod(tensor.shape)
    return found[0], found[1], found[2]


@each("model", MODELS)
@each(("tensor", "data"), [(1, 8), (2, 4), (4, 2), (1, 2)])
@each("dealt", [True, False], ids=["dealt out", "cut"])
def test_data_ranks_share_the_experts_and_nothing_else(model: str, tensor: int, data: int, dealt: bool) -> None:
    ranks = tensor * data
    rank = Rank(tensor_parallel=tensor, expert_ranks=ranks, expert_parallel=dealt)
    alone = elements(model, Rank(tensor_parallel=tensor, expert_ranks=tensor))
    whole = elements(model, Rank())
    assert elements(model, rank)[1:] == alone[1:]
    assert elements(model, rank)[0] * ranks == whole[0]  # every count here divides


def test_uneven_experts_are_decided_by_the_rank_that_has_one_more() -> None:
    whole = elements("qwen3-30b-a3b", Rank())[0]
    one = whole // 128
    assert elements("qwen3-30b-a3b", Rank(expert_ranks=12, expert_parallel=True))[0] == 11 * one


def test_shared_experts_are_whole_where_each_process_has_tokens_of_its_own() -> None:
    cut, whole = (elements("deepseek-v3", Rank(tensor_parallel=2, whole_shared=flag))[1] for flag in (False, True))
    assert whole == 2 * cut
    assert whole_shared("deepseek_v3", (0, 32, 0))
    assert not whole_shared("qwen3_next", (0, 23, 0))
    assert not whole_shared("mixtral", (0, 32, 0))


def lines(engine: str = "vllm", **options: object) -> dict[str, tuple[int, int, int]]:
    model = kvplan.load("deepseek-v3")
    (question,) = questions_of("deepseek-v3", model, known_weights("deepseek-v3", model, None, None), "h200", engine=engine,
                               context="8k", gpus=8, tensor_parallel=1, options=options)  # fmt: skip
    found = budget_of(question).ledger
    assert found is not None
    return {line.name: (line.bytes, line.low, line.high) for line in found.lines}


def test_experts_work_on_the_tokens_of_all_ranks_and_older_releases_in_chunks() -> None:
    spread = {"data_parallel_size": 8, "enable_expert_parallel": True}
    small, large = (lines(max_num_batched_tokens=n, **spread)["peak activation"][0] for n in (1024, 8192))
    rows = 8 * 8192 * 8 * 7168 * 2  # tokens of eight ranks, eight experts each, in bfloat16
    assert large > 2 * rows  # both of the experts' buffers
    assert small < rows
    assert lines(max_num_batched_tokens=8192)["peak activation"][0] < rows  # one rank alone
    older = lines("vllm@0.15.1", max_num_batched_tokens=8192, **spread)["peak activation"][0]
    assert large - older > rows  # 16,384 tokens at a time, not 65,536


def test_a_band_says_that_no_start_was_recorded() -> None:
    amount, low, high = lines(data_parallel_size=8, enable_expert_parallel=True)["peak activation"]
    assert high - amount >= 8 * 8192 * 7168
    assert amount - low >= 8 * 8192 * 7168
    assert lines(data_parallel_size=8, enable_expert_parallel=True)["non-torch"][2] >= 2**30
