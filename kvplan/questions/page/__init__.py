"""Everything that one page shows: caches over a grid of settings, what cards hold of them, and why. Plain values, exact ints."""

from kvplan.questions.page.values import Cache, CacheCell, Page, Shown, Start, Starts

__all__ = ["Cache", "CacheCell", "Page", "Shown", "Start", "Starts"]
