"""Places of a page's choices, and a name that would run if it could: for the tests without and with a browser."""

import random

from kvplan.questions.page import Page

HOSTILE = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\"> --><!-- ${1} `';{}"
SETTINGS = 200


def settings(page: Page, number: int = SETTINGS) -> list[dict[str, int]]:
    """Random places of the page's choices, the same each time."""
    chance = random.Random(27)
    sizes = {
        "model": len(page.models), "engine": len(page.engines), "dtype": len(page.kv_dtypes), "length": len(page.seq_lens),
        "batch": len(page.batch_sizes), "card": len(page.cards),
    }  # fmt: skip
    return [{key: chance.randrange(size) for key, size in sizes.items()} for _ in range(number)]
