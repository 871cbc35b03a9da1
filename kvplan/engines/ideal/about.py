"""What is known of `ideal` without loading it."""

from typing import Final

from kvplan.engines.kernel.about import About

ABOUT: Final = About(
    name="ideal",
    latest="1",
    source="papers; see kvplan/engines/kernel/theory.py",
    engine="kvplan.engines.ideal.engine:Ideal",
    roles={"kv_dtype": "kv_dtype", "tensor_parallel": "tensor_parallel"},
    theory=True,
    rules="kvplan/engines/ideal: each element once, no blocks, no padding: the least that the model needs",
)
