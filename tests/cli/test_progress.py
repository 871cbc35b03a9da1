"""One bar, on a terminal only."""

import io
import sys

import pytest

from kvplan.cli.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("of", "total", "words"), [("rows", 4_000_000, "/4000000"), ("bytes", 2**31, "GiB"), ("bytes", None, "0:00:00")]
)
def test_a_bar_says_what_is_done_and_how_much(of: str, total: int | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with progress("counting sheep", total, of=of) as advance:  # type: ignore[arg-type]
        advance(2**30)
    assert "counting sheep" in stream.getvalue()
    assert words in stream.getvalue()


def test_no_bar_in_a_pipe_or_where_nobody_wants_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, shown in ((io.StringIO(), True), (Terminal(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress("counting sheep", 10, shown=shown) as advance:
            advance(5)
        assert stream.getvalue() == ""


def test_a_bar_is_told_later_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with progress("counting sheep", None, of="rows") as advance:
        advance(300, 400)
        advance(100)
    assert "400/400" in stream.getvalue()
