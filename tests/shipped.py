"""The hub configs that tests carry and the catalogue's models, read; and what their layers keep."""

import json
from functools import cache
from typing import Any

from golden import CONFIGS

import kvplan
from kvplan import architectures
from kvplan.domain.allocation import Allocation
from kvplan.domain.model import Latent, Model, Recurrent, Shared, Softmax
from kvplan.domain.workload import Workload
from kvplan.engines.kernel.engine import Prepared
from kvplan.engines.kernel.tensors import At
from kvplan.questions.estimate import plan

HF = CONFIGS / "hf"
NAMES = tuple(sorted(path.stem for path in HF.glob("*.json")))


@cache
def raw(name: str) -> dict[str, Any]:
    """A config as the hub has it; nobody may change it."""
    return json.loads((HF / f"{name}.json").read_text())


@cache
def of_catalogue(name: str) -> Model:
    """A model of kvplan's own catalogue, read once however many engines are asked about it."""
    return kvplan.load(name)


def allocated_bytes(prepared: Prepared, at: Workload) -> int:
    """What a workload takes, by the sums alone: a tenth of an estimate with its notes, its log and its tables.

    tests/questions/sweep/test_sweep.py holds that these are the estimate's, of every model of the catalogue in every engine.

    Raises:
        Refused: the engine does not take it.
    """
    asked = At(at.seq_len, at.batch_size, at.encoder_len)
    prepared.check(asked)
    return prepared.totals(asked).allocated


def load(name: str, **changes: object) -> Model:
    return architectures.read({**raw(name), **changes}, source=name)


def text_type(data: dict[str, Any]) -> str:
    """The model type of the text part: what it says, or what its wrapper implies."""
    outer = data["model_type"]
    path, implied = architectures.WRAPPERS.get(outer, ((), outer))
    for key in path:
        data = data.get(key, data)
    inner = data.get("model_type", implied)
    return implied if inner == outer else inner


def ideal(model: Model, seq_len: int) -> Allocation:
    return plan(model, Workload(seq_len=seq_len))


def _of_kind(model: Model, kind: type) -> list[Any]:
    return [memory for layer in model.layers for memory in layer.memories if isinstance(memory, kind)]


def owners(model: Model) -> list[Softmax]:
    return _of_kind(model, Softmax)


def latents(model: Model) -> list[Latent]:
    return _of_kind(model, Latent)


def states_of(model: Model) -> list[Recurrent]:
    return _of_kind(model, Recurrent)


def shared(model: Model) -> list[Shared]:
    return _of_kind(model, Shared)
