"""Facts of field logs: what people's servers printed, to the printed digits, with the hub config of the model.

The engine is the first word of `engine_version`; its `About` names the reader, which has
`predict(case, asked, read) -> dict[name, value] | NotPredicted`, where a value is bytes as a Fraction, an int or several
values of which the record may name any; it may have `asked(case, expected)`, `EXACT`, names of further exact counts, and
`printed(case)`, names of further printed numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from kvplan.domain.allocation import NotPredicted
from kvplan.engines import ABOUTS, located
from kvplan.engines.kernel.cases import Case, Read
from kvplan.engines.kernel.printed import written_like

_EXACT: Final = ("num_tokens", "num_gpu_blocks", "cells", "groups")
_UNITS: Final = {"mib": "MiB", "gib": "GiB", "gb": "GiB"}  # vLLM, SGLang and TensorRT-LLM mean GiB by either


def recorded(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Every printed number, and the counts that are exact; numbers by length are spelled out."""
    facts: dict[str, Any] = {}
    reader = _reader(case)
    exact = (*_EXACT, *getattr(reader, "EXACT", ()))
    printed = reader.printed(case) if reader is not None and hasattr(reader, "printed") else ()
    for name, value in expected.items():
        if name.startswith("weights_"):  # not of the cache
            continue
        if isinstance(value, Mapping) and (name.endswith("_printed") or name == "max_concurrency" or name in printed):
            facts |= {f"{name}[{key}]": inner for key, inner in value.items()}
        elif name in exact or (
            (name.endswith("_printed") or name in printed) and isinstance(value, int | float) and not isinstance(value, bool)
        ):
            facts[name] = value
    return facts


def asked(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """What the reader takes as an input."""
    module = _reader(case)
    found: dict[str, Any] = module.asked(case, expected) if module is not None and hasattr(module, "asked") else {}
    return found


def predict(case: Case, asked: Mapping[str, Any], read: Read) -> dict[str, Any] | NotPredicted:
    """What the engine would have printed, in bytes."""
    module = _reader(case)
    if module is None:
        return NotPredicted(reason=f"kvplan predicts no facts of logs of {(case.engine_version or 'an unnamed engine')[:40]}")
    found: dict[str, Any] | NotPredicted = module.predict(case, asked, read)
    return found


def _reader(case: Case) -> Any | None:
    found = ABOUTS.get(case.engine_version.partition(" ")[0])
    return located(found.field_logs) if found and found.field_logs else None


def as_recorded(name: str, predicted: Any, recorded: Any) -> Any:
    """Bytes in the unit that the fact's name says, with the digits that were printed."""
    if hasattr(predicted, "like"):  # several values, of which the record may name any
        return predicted.like(recorded)
    bare = name.partition("[")[0]
    unit = next((_UNITS[part] for part in bare.split("_") if part in _UNITS), "")
    if not unit or not isinstance(predicted, int | Fraction):
        return predicted
    return written_like(recorded, (Fraction(predicted),), name, unit=unit, convention="binary")


def remark(case: Case) -> str:
    """Whether the model was named in the log, or matched to it by its bytes; and what of the record was not read."""
    confidence = case.more.get("model_confidence", "named")
    named = "" if confidence == "named" else f"the log does not name the model: it was {confidence} from the numbers"
    module = _reader(case)
    own = module.remark(case) if module is not None and hasattr(module, "remark") else ""
    return "; ".join(filter(None, (named, own)))
