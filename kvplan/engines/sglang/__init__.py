"""SGLang: token pools; known, not predicted yet."""

from kvplan.engines.sglang.about import ABOUT as ABOUT
