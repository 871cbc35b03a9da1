"""Explanations: what a model's cache remembers and why, its layers in a few lines, and the sum with its numbers."""

from kvplan.questions.explain.explanation import Explanation, explain

__all__ = ["Explanation", "explain"]
