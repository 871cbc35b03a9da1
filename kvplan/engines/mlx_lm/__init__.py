"""mlx-lm: arrays that grow in steps; known, not predicted yet."""

from kvplan.engines.mlx_lm.about import ABOUT as ABOUT
