"""The plan that people begin with: `kvplan committee --example`."""

from pathlib import Path


def example_plan() -> str:
    """Its text, comments included."""
    return Path(__file__).with_name("example.yaml").read_text(encoding="utf-8")
