"""One page of an answer that a person looks at: a single file that needs nothing else, or one that shares its script and style.

The text of the page is written here; what changes with a reader's choices is drawn by `page.js` from the grid that `data`
embeds. A content security policy names the page's own script and style by their hashes, so that nothing else runs, and that
nothing is fetched.
"""

import re
from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Final

from kvplan.domain.tables import Table
from kvplan.errors import printable
from kvplan.questions.explain import Explanation
from kvplan.questions.page import Page, Shown
from kvplan.report.answers.explain import ExplainAnswer
from kvplan.report.blocks import Heading, View
from kvplan.report.formats.html import block_html
from kvplan.report.page.data import embedded

#: The files of a page, in the order in which they are read.
SCRIPTS: Final = ("uplot/uPlot.iife.min.js", "page.js")
STYLES: Final = ("uplot/uPlot.min.css", "page.css")
#: What stands behind a number, in the words of every report.
_EVIDENCE: Final = {
    "recorded": "recorded cases of that engine hold this kind of layer at this cache dtype, all of them exact",
    "same rule": "the kinds are recorded, and so is how the dtype stores them, though not together",
    "from source": "the rule was read in the engine's source, and no recorded case holds it",
    "theory": "what the model needs at least; no engine allocates so",
    "hypothetical": "a layout that no checkpoint has",
    "inferred": "an unknown architecture, read by its shape: an upper bound",
}


def html(page: Page, *, title: str = "", assets: str | None = None, home: str | None = None) -> str:
    """The page as one text.

    Args:
        page: what it shows.
        title: its heading; the models' names where it is empty.
        assets: a folder, relative to the page, in which `asset_files` lie; None: everything is in the page.
        home: where a link back leads, relative to the page.
    """
    name = title or ", ".join(one.name for one in page.models)
    return "\n".join(("<!doctype html>", '<html lang="en">', _head(name, assets), _body(page, name, assets, home), "</html>", ""))


@cache
def asset(name: str) -> str:
    """One of the page's files."""
    return files(__package__).joinpath(*name.split("/")).read_text(encoding="utf-8")


def asset_files() -> dict[str, str]:
    """The files that pages with `assets` share, by their names there."""
    found = {name.rpartition("/")[2]: asset(name) for name in (*SCRIPTS, *STYLES)}
    return {**found, "uPlot.LICENSE.txt": asset("uplot/LICENSE")}


@cache
def _style() -> str:
    return "\n".join(map(asset, STYLES))


@cache
def _script() -> str:
    licence = "".join(f" * {line}\n" for line in asset("uplot/LICENSE").splitlines())
    return f"/*!\n{licence} */\n" + "\n".join(map(asset, SCRIPTS))


def _beside(assets: str | None, name: str) -> str:
    return escape(f"{assets}/{name.rpartition('/')[2]}")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _head(name: str, assets: str | None) -> str:
    own = assets is None
    script, style = (_hash(_script()), _hash(_style())) if own else ("'self' file:", "'self' file:")
    policy = f"default-src 'none'; script-src {script}; style-src {style}; img-src data:; base-uri 'none'; form-action 'none'"
    linked = "".join(f'<link rel="stylesheet" href="{_beside(assets, one)}">\n' for one in STYLES)
    return (
        '<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(name)} · kvplan</title>\n" + (f"<style>{_style()}</style>\n" if own else linked) + "</head>"
    )


def _body(page: Page, name: str, assets: str | None, home: str | None) -> str:
    back = "" if home is None else f'<p class="back"><a href="{escape(home)}">all models</a></p>\n'
    told = f'<script type="application/json" id="data">{embedded(page)}</script>'
    run = (
        f"<script>{_script()}</script>"
        if assets is None
        else "\n".join(f'<script src="{_beside(assets, one)}"></script>' for one in SCRIPTS)
    )
    return "\n".join(
        (
            "<body>",
            f"<header>\n{back}<h1>{_text(name)}</h1>\n{_LEAD}\n</header>",
            "<main>",
            _NO_SCRIPT,
            _CONTROLS,
            *(_section(*one) for one in _SECTIONS if page.cards or one[0] not in _OF_CARDS),
            _why(page),
            _evidence(),
            "</main>",
            _footer(page),
            told,
            run,
            "</body>",
        )
    )


_LEAD: Final = '<p class="lead">The exact bytes of the KV cache, as engines allocate it.</p>'
_NO_SCRIPT: Final = (
    '<noscript><p class="refused">The figures that follow your choices need JavaScript, which is off here. What each model '
    "keeps, and why, stands below; the commands of kvplan print the rest.</p></noscript>"
)
_CONTROLS: Final = """<form id="controls" aria-label="Settings">
<p><label for="model">Model</label><select id="model"></select></p>
<p><label for="engine">Engine</label><select id="engine"></select></p>
<p><label for="dtype">Cache dtype</label><select id="dtype"></select></p>
<p><label for="length">Context (tokens)</label><select id="length"></select></p>
<p><label for="batch">Requests at once</label><select id="batch"></select></p>
<p><label for="card">GPU</label><select id="card"></select></p>
<output id="said" for="model engine dtype length batch card" aria-live="polite"></output>
</form>"""
#: Id, heading, and what the section says, in one sentence.
_SECTIONS: Final = (
    ("kinds", "Bytes by kind of layer", "What this model's layers keep in this engine, at the settings above."),
    ("all", "All models at these settings", "The same question to every model of this page."),
    ("growth", "Growth over context", "The cache over the tokens of a request; both axes double from mark to mark."),
    ("beyond", "Beyond what the model needs", "From the least that the model must remember to what the engine takes, by cause."),
    (
        "start",
        "A start on this GPU",
        "Where one device's memory goes before the cache gets the rest. Hatched: a band, not a point.",
    ),
    ("fits", "What fits where", "Requests held at once, by the tokens of each: the stronger the colour, the more."),
)
_OF_CARDS: Final = {"start", "fits"}


def _footer(page: Page) -> str:
    version = re.search(r"v[0-9.]+", asset(SCRIPTS[0])[:200])
    return (
        f"<footer><p>Written by kvplan {_text(page.version)}. The page is complete: it fetches nothing and sends nothing. Curves "
        f"are drawn by uPlot {version[0] if version else ''} (MIT licence, © 2022 Leon Sorokin), which lies in the page with its "
        "licence.</p></footer>"
    )


def _section(key: str, heading: str, says: str) -> str:
    return (
        f'<section id="{key}" aria-labelledby="{key}-title">\n<h2 id="{key}-title">{escape(heading)}</h2>\n'
        f'<p class="says">{escape(says)}</p>\n<div class="drawn"></div>\n</section>'
    )


def _why(page: Page) -> str:
    """What each model keeps and why, the sum with its numbers, and who says so: prose, which no choice changes."""
    parts = [_why_one(one, shown=len(page.models) == 1) for one in page.models]
    return (
        '<section id="why" aria-labelledby="why-title">\n<h2 id="why-title">Why: formulas, sources and layers</h2>\n'
        '<p class="says">What must be remembered of one sequence of 8,192 tokens in theory, term by term; '
        "<code>kvplan explain</code> says it of every engine.</p>\n" + "\n".join(parts) + "\n</section>"
    )


def _why_one(one: Shown, *, shown: bool) -> str:
    blocks = "\n".join(_explained(one.why))
    return f"<details{' open' if shown else ''}><summary>{_text(one.name)}</summary>\n{blocks}\n</details>"


def _explained(e: Explanation) -> Iterator[str]:
    for each in ExplainAnswer(e).blocks(View()):
        if isinstance(each, Table):
            scrolled = f'class="scroll" tabindex="0" role="group" aria-label="{_text(each.title)}"'
            yield f"<div {scrolled}>{block_html(each, View())}</div>"
        elif not isinstance(each, Heading):
            yield block_html(each, View())


def _evidence() -> str:
    items = "".join(f"<dt>{escape(word)}</dt><dd>{escape(says)}</dd>" for word, says in _EVIDENCE.items())
    return (
        '<section id="evidence" aria-labelledby="evidence-title">\n<h2 id="evidence-title">What stands behind a number</h2>\n'
        f"<dl>{items}</dl>\n</section>"
    )


def _text(words: str) -> str:
    return escape(printable(words))
