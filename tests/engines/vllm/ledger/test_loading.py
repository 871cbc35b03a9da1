"""Modules that are built once for layers that are alike: layers that lack a tensor are not."""

from kvplan.domain.parameters import Parameter
from kvplan.engines.vllm.ledger.loading import Beside, load
from kvplan.engines.vllm.ledger.tensors import Rank, modules

Q = Parameter(
    name="model.layers.{layer}.q.weight", shape=(8, 8), role="q", component="attention", layers=(0, 1, 2), split="column"
)
K = Parameter(name="model.layers.{layer}.k.weight", shape=(4, 8), role="k", component="attention", layers=(0, 2), split="column")


def test_layers_of_the_same_first_tensor_are_counted_by_all_of_theirs() -> None:
    found = load((Q, K), Rank(), (0, 33), Beside(text_type="llama"))
    assert found.exact == 2 * (3 * 64 + 2 * 32)  # bytes
    assert found.parameters == 3 * 64 + 2 * 32


def test_equal_layers_differ_in_their_number() -> None:
    built = [[(tensor.layer, tensor.shape) for tensor in group] for group in modules((Q, K), Rank())]
    assert built == [[(0, (12, 8))], [(1, (8, 8))], [(2, (12, 8))]]
