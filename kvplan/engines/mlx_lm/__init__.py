"""mlx-lm: prompt caches on Apple silicon, whose arrays grow in steps, rotate, or stay as they are."""

from kvplan.engines.mlx_lm.about import ABOUT as ABOUT
