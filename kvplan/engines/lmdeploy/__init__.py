"""LMDeploy: blocks of a pool; its PyTorch engine, and TurboMind as an option."""

from kvplan.engines.lmdeploy.about import ABOUT as ABOUT
