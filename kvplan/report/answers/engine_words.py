"""An engine in the title of a report: with the release whose rules ran."""

from kvplan.engines import ABOUTS, engine_name
from kvplan.engines.kernel.releases import parse_version


def engine_words(spec: str, version: str = "") -> str:
    """`NAME` or `NAME@VERSION` with its release, and whose rules stand in for one that is newer than all that were read.

    >>> engine_words("vllm@0.11.0"), engine_words("vllm@99").startswith("vllm 99 by the rules of 0."), engine_words("ideal")
    ('vllm 0.11.0', True, 'ideal')
    """
    name = engine_name(spec)
    known = ABOUTS.get(name)
    asked = version or spec.partition("@")[2].strip()
    if known is None or not (known.recorded or known.behind):  # the theory has no releases
        return name
    if asked and parse_version(asked) > parse_version(known.latest):
        return f"{name} {asked} by the rules of {known.latest}"
    return f"{name} {asked or known.latest}"
