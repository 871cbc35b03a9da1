"""What evidence calls recorded is what exact cases hold: written by tools/make_recorded.py, and current."""

import make_recorded
from each import each
from golden import ROOT

from kvplan.engines import ABOUTS
from kvplan.engines.kernel.about import About


@each("about", [about for about in ABOUTS.values() if about.recorded], ids=lambda about: about.name)
def test_what_is_recorded_is_what_exact_cases_hold(about: About) -> None:
    """`make index` writes it; nobody adds a combination, and no exact case is left out."""
    path = ROOT / (about.recorded.replace(".", "/") + ".py")
    assert make_recorded.written(about) == path.read_text(encoding="utf-8"), "run `make index`"
