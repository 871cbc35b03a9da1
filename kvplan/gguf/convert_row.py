"""One row of the converter's mapping."""

from typing import Literal

from kvplan.records import dataclass

Builder = Literal[
    "plain", "absorbed", "minicpm3", "dsa", "deepseek4", "kda", "mamba", "ssm", "delta", "falcon_h1", "granite", "nemotron",
    "short_conv", "linear", "cohere", "hunyuan", "t5", "deci", "rwkv", "msa", "mimo", "laguna", "qwen4", "glm5", "bailing",
    "dots3", "hy4", "by_width", "phi2", "orion", "chatglm",
    "bloom", "heads", "plamo", "bailing2",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model type: its GGUF architecture and how its keys are written."""

    arch: str
    build: Builder = "plain"
    window: Literal["", "size", "pattern"] = ""  # what is written about sliding layers
    drafts: bool = False  # NextN layers become blocks
    context: int = 0  # tokens, where the converter writes a constant
