"""Recorded counts of llama.cpp's own image preprocessors."""

from collections.abc import Mapping
from typing import Any

from kvplan.domain.allocation import NotPredicted
from kvplan.domain.media.cost import NotTaken
from kvplan.engines.kernel.cases import Case, InvalidCase
from kvplan.engines.kernel.media_cases import asked_media, facts, refusal
from kvplan.engines.llama_cpp.projectors import Limits, rule_of


def predict(case: Case) -> Mapping[str, Any] | NotPredicted:
    """The facts of a recorded case: the projector's hyperparameters stand in its config.

    Raises:
        InvalidCase: no projector, an option or a size that is none.
    """
    projector = case.config.get("projector")
    if not isinstance(projector, str):
        raise InvalidCase("`config.projector` must be a text")
    said = {name: case.options.get(f"image_{name}_tokens") for name in ("min", "max")}
    least, most = (None if value is None else case.option(f"image_{name}_tokens", minimum=1) for name, value in said.items())
    media = asked_media(case)
    try:
        rule = rule_of(projector, case.config, Limits(least=least, most=most), case.id)
        return facts(rule.of([(size.height, size.width) for size in media.images]))
    except NotTaken as problem:
        return refusal(problem)
