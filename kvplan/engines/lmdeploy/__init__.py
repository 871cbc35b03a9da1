"""LMDeploy: blocks; known, not predicted yet."""

from kvplan.engines.lmdeploy.about import ABOUT as ABOUT
