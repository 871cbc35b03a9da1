"""A static site of many models: an index with a search, what fits a card, a page and some JSON a model. It opens from a folder.

The lists are whole without a script; scripts hide rows, sort them, and answer for a card. Nothing is fetched: a page opened from
a folder may not, so what a script needs stands in its page. A content security policy keeps all else out.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any, Final

import msgspec
from msgspec import Struct

from kvplan.errors import printable
from kvplan.questions.page import Cache, Page, Starts
from kvplan.report.answers.models import Entry
from kvplan.report.page import asset_files, html
from kvplan.units import in_unit

SCHEMA: Final = 2
_OWN: Final = ("site.js", "site.css")
_SAFE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
#: What some file systems keep for themselves.
_TAKEN: Final = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))})
_POLICY: Final = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src data:; base-uri 'none'; form-action 'none'"
)
_EXACT: Final = 2**53  # from which on a script's numbers are rounded


class Row(Struct, frozen=True, kw_only=True):
    """One model in the lists.

    Attributes:
        file: its page without the ending, and its folder of JSON.
        family: as its file of rows is called; a paper's rows: the paper.
        held: requests on each engine, card and length in turn: a number, `[low, best]` where it is a band, or a word.
    """

    entry: Entry
    file: str
    family: str
    held: tuple[Any, ...]


def file_name(name: str) -> str:
    """A model's name as the name of a file, on any system and in any address.

    >>> file_name("cla-paper/1b-h128-mha"), file_name("Qwen3 8B")[:8], file_name("../../x")[:6], file_name("nul")[:6]
    ('cla-paper--1b-h128-mha', 'qwen3-8b', 'model-', 'nul-99')
    """
    plain = re.sub(r"[ /]", lambda found: "--" if found[0] == "/" else "-", name.lower())
    if (
        plain == name.replace("/", "--")
        and _SAFE.fullmatch(plain)
        and plain.partition(".")[0] not in _TAKEN
        and ".." not in plain
    ):
        return plain
    mark = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    words = re.sub(r"[^a-z0-9]+", "-", plain[:60]).strip("-")
    return f"{words}-{mark}" if words and "/" not in name else f"model-{mark}"


def model_files(page: Page, file: str) -> dict[str, str]:
    """One model's page, and a JSON for each of its engines, by their places in the site."""
    found = {f"models/{file}.html": html(page, assets="../assets", home="../index.html")}
    for engine in page.engines:
        name = re.sub(r"[^a-z0-9.]+", "-", engine.lower())
        found[f"json/{file}/{name}.json"] = _json(engine_dict(page, engine))
    return found


def engine_dict(page: Page, engine: str) -> dict[str, Any]:
    """What a site's JSON says of the first model of a page in one engine: estimates, and what fits where."""
    caches = [one for one in page.caches if one.engine == engine and one.model == 0]
    fits = [one for one in page.starts if one.engine == engine and one.model == 0]
    return {
        "schema": SCHEMA,
        "kvplan": page.version,
        "model": page.models[0].name,
        "engine": engine,
        "engine_version": caches[0].engine_version,
        "estimates": [row for cache in caches for row in _estimates(page, cache)],
        "fits": [row for one in fits for row in _fits(page, one)],
    }


def _estimates(page: Page, cache: Cache) -> list[dict[str, Any]]:
    if cache.refused:
        return [{"kv_dtype": cache.kv_dtype, "not_predicted": cache.refused, "see": cache.see}]
    rows = []
    for seq_len, cells in zip(page.seq_lens, cache.cells, strict=True):
        for batch_size, cell in zip(page.batch_sizes, cells, strict=True):
            asked = {"kv_dtype": cache.stored, "evidence": cache.evidence, "batch_size": batch_size, "seq_len": seq_len}
            if cell.refused:
                rows.append({**asked, "not_predicted": cell.refused, "see": cell.see})
                continue
            told = {name: getattr(cell, name) for name in ("total_bytes", "payload_bytes", "bytes_per_token")}
            rows.append({**asked, **told})
    return rows


def _fits(page: Page, starts: Starts) -> list[dict[str, Any]]:
    rows = []
    for seq_len, start in zip(page.seq_lens, starts.starts, strict=True):
        cell = start.cell
        row = {"gpu": starts.card, "kv_dtype": starts.kv_dtype, "context": seq_len, "verdict": cell.verdict}
        if cell.requests is not None:
            row |= {"requests": cell.requests, "requests_low": cell.requests_low, "requests_high": cell.requests_high}
        rows.append(row)
    return rows


def held(page: Page) -> tuple[Any, ...]:
    """Requests of the first model at its own cache dtype: engines, in each the cards, in each the lengths."""
    found: list[Any] = []
    for engine in page.engines:
        for card in page.cards:
            for start in page.start(0, engine, page.kv_dtypes[0], card).starts:
                cell = start.cell
                if cell.requests is None or cell.verdict in {"does not fit", "does not start"}:
                    found.append("any" if cell.verdict == "fits" else cell.verdict)
                elif cell.requests_low is None or cell.requests_low == cell.requests:
                    found.append(cell.requests)
                else:
                    found.append([cell.requests_low, cell.requests])
    return tuple(found)


def site_files(
    rows: Sequence[Row], *, engines: Sequence[str], cards: Sequence[str], seq_lens: Sequence[int], version: str
) -> dict[str, str]:
    """The lists, what they share, and the index of the JSON, by their places."""
    own = {name: files(__package__).joinpath(name).read_text(encoding="utf-8") for name in _OWN}
    listed = [
        {**row.entry.to_dict(), "family": row.family, "page": f"models/{row.file}.html", "json": f"json/{row.file}/"}
        for row in rows
    ]
    return {
        "index.html": _index(rows, version),
        "cards.html": _cards(rows, engines, cards, seq_lens, version),
        "json/index.json": _json({"schema": SCHEMA, "kvplan": version, "engines": list(engines), "models": listed}),
        **{f"assets/{name}": text for name, text in {**asset_files(), **own}.items()},
    }


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode() + "\n"


def _text(words: str, most: int = 400) -> str:
    return escape(printable(words, most))


_SHELL: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · kvplan</title>
<link rel="stylesheet" href="assets/page.css">
<link rel="stylesheet" href="assets/site.css">
</head>
<body>
<header>
<nav aria-label="Site"><ul class="nav">{links}</ul></nav>
<h1>{title}</h1>
</header>
<main>
{body}
</main>
<footer><p>Made by kvplan {version}, which is exact to the byte; <code>kvplan site -o FOLDER</code> makes it again. For programs:
<a href="json/index.json">json/index.json</a> lists every model, and <code>json/MODEL/ENGINE.json</code> has its bytes and what
fits.</p></footer>
<script src="assets/site.js"></script>
</body>
</html>
"""
_LEAD_INDEX: Final = """<p class="lead">{number} models: what one more token costs, where that stands, and what each
engine makes of it. Bytes a token: after 8,192 tokens of a sequence, at the model's own dtype, in theory; a model's page has
the engines.</p>"""
_LEAD_CARDS: Final = """<p class="lead">Which models fit a GPU, and how many requests of a length each holds at once: its weights
as published, its own cache dtype, and what the engine takes besides. A number is what surely fits; where a band is known, the
best stands beside it.</p>
<noscript><p class="refused">This list answers your choices with JavaScript, which is off here. Each model's folder of JSON has
the same numbers, and so does <code>kvplan fit MODEL --gpu CARD</code>.</p></noscript>"""


def _page(title: str, here: str, body: str, version: str) -> str:
    marked = {here: ' aria-current="page"'}
    links = "".join(
        f'<li><a href="{page}"{marked.get(page, "")}>{words}</a></li>'
        for page, words in (("index.html", "Models"), ("cards.html", "What fits my card"))
    )
    return _SHELL.format(policy=_POLICY, title=title, links=links, body=body, version=_text(version))


def _choice(name: str, label: str, options: Sequence[tuple[str, str]]) -> str:
    listed = "".join(f'<option value="{_text(value)}">{_text(words)}</option>' for value, words in options)
    return f'<p><label for="{name}">{label}</label><select id="{name}">{listed}</select></p>'


def _index(rows: Sequence[Row], version: str) -> str:
    families = sorted({row.family for row in rows})
    layouts = sorted({word for row in rows for word in row.entry.layout})
    heads = (
        ("model", "Model", ""), ("family", "Family", ""), ("layout", "Layout", ""), ("layers", "Layers", "r"),
        ("bytes", "Bytes a token", "r"), ("tokens", "Most tokens", "r"), ("weights", "Weights, GiB", "r"),
    )  # fmt: skip
    head = "".join(f'<th scope="col" class="{kind}" data-key="{key}">{words}</th>' for key, words, kind in heads)
    body = "\n".join(map(_index_row, rows))
    controls = (
        '<form id="find" class="find" role="search" aria-label="Search models">'
        '<p><label for="words">Search</label><input id="words" type="search" autocomplete="off" spellcheck="false"></p>'
        + _choice("family", "Family", [("", "all"), *((one, one) for one in families)])
        + _choice("layout", "Layout", [("", "all"), *((one, one) for one in layouts)])
        + '<output id="count" for="words family layout" aria-live="polite"></output></form>'
    )
    lead = _LEAD_INDEX.format(number=f"{len(rows):,}")
    inner = f"<caption>Models</caption><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    table = f'<div class="scroll"><table id="models">{inner}</table></div>'
    return _page("Models and their KV caches", "index.html", f"{lead}\n{controls}\n{table}", version)


def _index_row(row: Row) -> str:
    entry = row.entry
    weights = "" if entry.weights_bytes is None else in_unit(entry.weights_bytes, "GiB")
    cells = (
        ("", _text(row.family), ""),
        ("", _text(", ".join(entry.layout)), ""),
        ("r", f"{entry.layers:,}", entry.layers),
        ("r", f"{entry.bytes_per_token:,}", entry.bytes_per_token),
        ("r", "" if entry.max_tokens is None else f"{entry.max_tokens:,}", entry.max_tokens),
        ("r", weights, entry.weights_bytes),
    )
    found = "".join(f'<td class="{kind}"{_sorted_by(value)}>{shown}</td>' for kind, shown, value in cells)
    hub = "" if entry.hub is None else f' data-hub="{_text(entry.hub.lower())}"'
    return f'<tr{hub}><th scope="row"><a href="models/{row.file}.html">{_text(entry.model)}</a></th>{found}</tr>'


def _sorted_by(value: Any) -> str:
    return f' data-by="{value}"' if isinstance(value, int) else ""


def _cards(rows: Sequence[Row], engines: Sequence[str], cards: Sequence[str], seq_lens: Sequence[int], version: str) -> str:
    told = {
        "engines": list(engines),
        "cards": list(cards),
        "lengths": list(seq_lens),
        "models": [
            {"name": printable(row.entry.model), "file": row.file, "family": row.family, "held": list(map(_exact, row.held))}
            for row in rows
        ],
    }
    data = msgspec.json.encode(told).decode().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    lengths = [(str(place), f"{length:,}") for place, length in enumerate(seq_lens)]
    controls = (
        '<form id="controls" aria-label="Settings">'
        + _choice("card", "GPU", [(str(place), card) for place, card in enumerate(cards)])
        + _choice("engine", "Engine", [(str(place), engine) for place, engine in enumerate(engines)])
        + _choice("length", "Context (tokens)", lengths)
        + '<p><label for="least">Requests at least</label><input id="least" type="number" min="1" value="1"></p>'
        + '<p><label for="words">Search</label><input id="words" type="search" autocomplete="off" spellcheck="false"></p>'
        + '<output id="said" for="card engine length least words" aria-live="polite"></output></form>'
    )
    table = (
        '<div class="scroll"><table id="fits"><caption>Models that fit</caption><thead><tr><th scope="col">Model</th>'
        '<th scope="col">Family</th><th scope="col" class="r">Requests</th><th scope="col" class="r">At best</th></tr></thead>'
        "<tbody></tbody></table></div>"
    )
    embedded = f'<script type="application/json" id="data">{data}</script>'
    return _page("What fits my card", "cards.html", f"{_LEAD_CARDS}\n{controls}\n{table}\n{embedded}", version)


def _exact(value: Any) -> Any:
    """A number that a script would round is a text."""
    return str(value) if isinstance(value, int) and value >= _EXACT else value
