"""Random small models through the installed library: real classes, real caches, every tensor as predicted.

Recorded cases cannot find what they do not contain, so hypothesis chooses KV heads, head sizes, windows, layer
patterns, latent and state sizes (`tests/tiny_configs.py`) of more than fifty model types. KVPLAN_LIVE_EXAMPLES raises
the number of models of each type.
"""

import importlib.util
import os
from functools import cache
from typing import Any

import pytest
from each import each
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tiny_configs import ROWS, configs

from kvplan import architectures
from kvplan.domain.allocation import NotPredicted
from kvplan.domain.workload import Workload
from kvplan.engines.transformers.engine import Transformers
from kvplan.engines.transformers.options import TransformersOptions
from kvplan.questions.estimate import predict
from kvplan.questions.validate.devices import Device

EXAMPLES = int(os.environ.get("KVPLAN_LIVE_EXAMPLES", "2"))
PAIRS = {"bart", "t5", "whisper"}

if importlib.util.find_spec("transformers") is None:
    pytest.skip("transformers is not installed (dependency group `oracle`): nothing to compare with", allow_module_level=True)


@cache
def device() -> Device:
    import transformers

    from kvplan.questions.validate.choosing import open_device
    from kvplan.questions.validate.ranks import Ranks

    if not transformers.__version__.startswith("5.24."):
        pytest.skip(f"transformers {transformers.__version__} is installed; the rules are those of 5.24")
    return open_device("cpu", Ranks())


def test_more_than_thirty_model_types_vary() -> None:
    assert len(ROWS) > 50


@pytest.mark.filterwarnings("ignore")  # the library's own
@each("model_type", ROWS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_library_holds_what_is_predicted(model_type: str, data: st.DataObject) -> None:
    from kvplan.questions.validate.against_transformers import compared, run

    config: dict[str, Any] = data.draw(configs(model_type))
    prompt, decoded, batch = data.draw(st.integers(1, 20)), data.draw(st.integers(0, 3)), data.draw(st.integers(1, 2))
    options = TransformersOptions(
        cache=data.draw(st.sampled_from(["dynamic", "static", "plain"])), max_cache_len=30, prompt_len=prompt
    )
    encoder = data.draw(st.integers(1, 24)) if model_type in PAIRS else 0
    workload = Workload(batch_size=batch, seq_len=prompt + decoded, encoder_len=encoder)
    engine, model = Transformers(options), architectures.read(config)
    refusal = predict(engine, model, workload)
    if isinstance(refusal, NotPredicted):
        assert options.cache == "plain" or model.loop is not None, refusal.reason
        event("refused: a cache without a config, or one that a loop does not take")
        return
    answer, ran = run(model, workload, engine, device())
    assert ran.on == "cpu", ran.remarks
    verdict = compared(answer, ran, device())
    assert verdict.passed, f"{verdict.failure()}\n{config}\n{options.cache}, {workload}"
