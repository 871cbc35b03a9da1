"""Model type of the text part -> the module of this package that counts its parameters."""

from typing import Final

MODULES: Final[tuple[str, ...]] = (
    "dense",
    "sparse",
    "gpt",
    "latent",
    "hybrids",
    "nemotron_h",
    "zamba",
    "delta",
    "convolution",
    "gemma",
    "deepseek_v4",
    "recurrent",
    "others",
    "whole",
    "mlx_lm",
    "bart",
    "t5",
    "bert",
    "t5gemma",
)
