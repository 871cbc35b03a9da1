"""Facts of recorded runs of the engine's own `--fit`. It rests on compute buffers, which such a record brings along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.stored import StoredTensor
from kvplan.engines.kernel.cases import Case, InvalidCase, whole
from kvplan.engines.llama_cpp.audit.devices import asked_of, devices_of, tensors_of
from kvplan.engines.llama_cpp.context import Refusal, make_context
from kvplan.engines.llama_cpp.memory import Params
from kvplan.engines.llama_cpp.placement.devices import Host, taking_part
from kvplan.engines.llama_cpp.placement.fit import FLOOR, MARGIN_MIB, Choice, Given, Leaves, Need, Subject, Trial, fitted
from kvplan.engines.llama_cpp.placement.load import loaded, trial_asked
from kvplan.engines.llama_cpp.placement.place import Asked
from kvplan.gguf.hparams import Hparams, read_hparams

_FACTS: Final = ("n_ctx", "n_gpu_layers", "tensor_split", "overrides")


def is_fit(case: Case) -> bool:
    """Whether a record is a run of the fit."""
    return "fit_target_mib" in case.options and "measured" in case.workload


def recorded(expected: Mapping[str, Any]) -> dict[str, Any]:
    """Whether it found something, and what."""
    facts = {"ok": expected["ok"]} if "ok" in expected else {}
    fit = expected.get("fit")
    if isinstance(fit, Mapping):
        facts |= {f"fit.{name}": fit[name] for name in _FACTS if name in fit}
    return facts


class _Compute:
    """The compute buffers of a record: in the order of the first measurements, then by distribution."""

    def __init__(self, measured: Mapping[str, Any]) -> None:
        self.initial = [entry["bytes"] for entry in measured.get("initial", [])]
        self.trials = {
            tuple(zip(entry["n_layer"], entry["n_part"], entry["overflow"], entry["overflow_to"], strict=True)): entry["bytes"]
            for entry in measured.get("trials", [])
        }
        self.draft = {entry["n_ctx"]: entry["bytes"] for entry in measured.get("draft", [])}

    def of(self, trial: Trial) -> Sequence[Sequence[int]]:
        """Rows of bytes, the devices and then the host.

        Raises:
            InvalidCase: the record lacks it.
        """
        if trial.given is None:
            if self.initial:
                return self.initial.pop(0)  # type: ignore[no-any-return]
        else:
            key = tuple((each.layers, each.part, each.leaves, each.to) for each in trial.given)
            if key in self.trials:
                return self.trials[key]  # type: ignore[no-any-return]
        raise InvalidCase("`workload.measured` lacks a measurement that the rule asks for")


def predict(case: Case, h: Hparams, params: Params[int]) -> dict[str, Any] | NotPredicted:
    """The choice, from the record's compute buffers and everything else by the rules."""
    asked, devices = asked_of(case), devices_of(case)
    host = Host(total_bytes=case.option("host_total_bytes", default=0))
    taking = taking_part(devices, use_devices=asked.use_devices, split_mode=asked.split_mode, main_gpu=asked.main_gpu)
    if isinstance(taking, Refusal):
        return {"ok": False}
    measured = case.workload["measured"]
    if not isinstance(measured, Mapping):
        raise InvalidCase("`workload.measured` must be an object")
    compute = _Compute(measured)
    blocks = h.n_layer_all if asked.loading.load_mtp else h.n_layer
    model = _Loaded(h, params, tensors_of(case), asked, blocks)
    drafter = _drafter(case, params)

    def measure(trial: Trial) -> list[Need]:
        rows = compute.of(trial)
        found = [Need(m, c, rows[i][2]) for i, (m, c) in enumerate(model.sums(trial, devices, host))]
        if drafter is not None:
            n_ctx = trial.n_ctx or h.context_length
            extra = compute.draft.get(n_ctx)
            if extra is None:
                raise InvalidCase("`workload.measured.draft` lacks a context that the rule asks for")
            more = drafter.sums(Trial(n_ctx=n_ctx), devices, host)
            found = [
                Need(one.model + m, one.context + c, one.compute + extra[i][2])
                for i, (one, (m, c)) in enumerate(zip(found, more, strict=True))
            ]
        return found

    choice = fitted(
        Subject(
            blocks=blocks,
            experts=bool(h.keys.get(f"{h.arch}.expert_count")),
            context_length=h.context_length,
            streams=1 if params.kv_unified else max(params.n_seq_max, 1),
            n_ctx=case.option("n_ctx", default=0),
            n_gpu_layers=asked.n_gpu_layers,
            floor=case.option("fit_ctx", default=FLOOR),
            split_set=any(asked.tensor_split or ()),
            moved=bool(asked.loading.moved),
            rows=asked.split_mode == "row",
        ),
        taking,
        host.total_bytes,
        measure,
        _margins(case),
    )
    return choice_facts(choice, blocks)


def choice_facts(choice: Choice, blocks: int) -> dict[str, Any]:
    """A choice by the names of the record."""
    split = list(choice.tensor_split)
    while split and not split[-1]:
        split.pop()
    return {
        "ok": not choice.refused,
        "fit.n_ctx": choice.n_ctx,
        "fit.n_gpu_layers": choice.n_gpu_layers,
        "fit.tensor_split": split,
        "fit.overrides": _runs(choice.given, blocks),
    }


def _runs(given: Sequence[Given], blocks: int) -> list[Any]:
    """Overrides as runs of equal ones: `[[first, last], what leaves, to which buffer]`."""
    each: list[tuple[int, Leaves, str]] = []
    block = blocks + 1 - sum(one.layers for one in given)
    for one in given:
        block += one.full
        each += [
            (at, one.leaves if at == block else "moe", one.to if at == block else "CPU") for at in range(block, block + one.part)
        ]
        block += one.part
    found: list[Any] = []
    for (_, leaves, to), run in groupby(each, key=lambda entry: (entry[0] - each.index(entry), *entry[1:])):
        listed = list(run)
        found.append([[listed[0][0], listed[-1][0]], leaves, to])
    return found


class _Loaded:
    """One model on the record's devices, load by load."""

    def __init__(self, h: Hparams, params: Params[int], tensors: Sequence[StoredTensor], asked: Asked, blocks: int) -> None:
        self.h, self.params, self.tensors, self.asked, self.blocks = h, params, tensors, asked, blocks

    def sums(self, trial: Trial, devices: Sequence[Any], host: Host) -> list[tuple[int, int]]:
        """Bytes of weights and context on each device and the host."""
        from msgspec.structs import replace

        context = make_context(self.h, replace(self.params, n_ctx=trial.n_ctx))
        if isinstance(context, Refusal):
            raise InvalidCase(f"llama.cpp refuses: {context.message}")
        found = loaded(self.h, context, self.tensors, trial_asked(self.asked, trial, self.blocks), devices, host)
        if isinstance(found, Refusal):
            raise InvalidCase(f"llama.cpp refuses: {found.message}")
        return found[1]


def _drafter(case: Case, params: Params[int]) -> _Loaded | None:
    """The drafter of a record, with its own tensors."""
    draft = case.more.get("draft")
    if not isinstance(draft, Mapping):
        return None
    config = draft.get("config")
    if not isinstance(config, Mapping):
        raise InvalidCase("`draft.config` must be an object")
    h = read_hparams(config, f"{case.id}: draft")
    return _Loaded(h, params, tensors_of(Case(id=case.id, engine=case.engine, more=draft)), Asked(), h.n_layer)


def _margins(case: Case) -> tuple[int, ...]:
    value = case.options.get("fit_target_mib")
    listed = value if isinstance(value, list) and value else [MARGIN_MIB]
    return tuple(whole(each, "options.fit_target_mib") for each in listed)
