"""Everything that `kvplan explain` says about one model and workload, as values."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from kvplan.domain.allocation import Allocation, NotPredicted
from kvplan.domain.dtypes import lookup
from kvplan.domain.media.asked import NO_MEDIA, Media
from kvplan.domain.model import Model
from kvplan.domain.workload import Workload
from kvplan.engines import about
from kvplan.questions.estimate import plan_media
from kvplan.questions.explain.formula import Line, formula
from kvplan.questions.explain.layer_map import Run, layer_map
from kvplan.questions.explain.rules import Rule, rules_for
from kvplan.units import human_bytes


class Explanation(Struct, frozen=True, kw_only=True):
    """What is kept and why (`rules`), where (`layers`), how much (`lines` sum to the total), and who says so."""

    model: Model
    engine: str
    answer: Allocation | NotPredicted
    rules: tuple[Rule, ...]
    layers: tuple[Run, ...]
    lines: tuple[Line, ...]

    def __hash__(self) -> int:
        return hash((self.model.name, self.engine, self.lines))

    def __repr__(self) -> str:
        said = f"not predicted: {self.answer.reason}" if isinstance(self.answer, NotPredicted) else human_bytes(self.total_bytes)
        return f"<Explanation {self.model.name} · {self.engine}: {said}>"

    @property
    def total_bytes(self) -> int:
        """The sum of the lines."""
        return sum(line.bytes for line in self.lines)

    @property
    def sources(self) -> tuple[tuple[str, str], ...]:
        """What each rule rests on, the engine's storage last."""
        known = about(self.engine)
        storage = ((f"storage in {known.name}", known.rules),) if known.rules else ()
        dtype = self.answer.kv_dtype if isinstance(self.answer, Allocation) else ""
        scales = ((f"scales of {dtype}", lookup(dtype).scales),) if dtype and lookup(dtype).scales else ()
        return (*((rule.title, rule.source) for rule in self.rules), *storage, *scales)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form (docs/reference/formats.md)."""
        answer: Mapping[str, Any]
        if isinstance(self.answer, NotPredicted):
            a = self.answer
            asked = {"model": self.model.name, "engine": a.engine, "engine_version": a.engine_version}
            answer = {**asked, "not_predicted": a.reason, "see": a.see}
        else:
            answer = {key: value for key, value in self.answer.to_dict().items() if key != "groups"}
        return {
            **answer,
            "model_type": self.model.model_type,
            "rules": [rule._asdict() for rule in self.rules],
            "layer_map": [run._asdict() for run in self.layers],
            "formula": [line._asdict() for line in self.lines],
            "facts": [{"key": f.key, "value": f.value, "origin": f.origin} for f in self.model.provenance],
            "sources": [{"rule": rule, "source": source} for rule, source in self.sources],
        }


def explain(
    model: Model,
    workload: Workload,
    engine: str = "ideal",
    *,
    media: Media = NO_MEDIA,
    files: Mapping[str, Any] | None = None,
    **options: Any,
) -> Explanation:
    """Explain one model's cache for one workload in one engine.

    Args:
        media: of each sequence, beside the tokens of `workload`.
        files: sections of a processor's values, over what its family's row assumes.

    Raises:
        OptionError: an unknown engine or option, or a text-only model with media.
    """
    answer = plan_media(model, workload, media, engine, files=files, **options)
    return Explanation(
        model=model,
        engine=engine,
        answer=answer,
        rules=tuple(rules_for(model)),
        layers=tuple(layer_map(model)),
        lines=tuple(formula(answer)) if isinstance(answer, Allocation) else (),
    )
