"""SGLang's scheduler and radix cache, step by step: who is admitted, what is found, what is evicted, who is retracted.

The modules, in the order in which they build on each other: `settings` (what a server was told), `tree` (the radix cache),
`scheduler` (a step), `serve` (requests with times through it).

Written from the engine's source, and not held against recorded runs of it: sglang's main branch as of 2026-11, after 0.5.23,
`srt/managers/scheduler.py`, `schedule_policy.py`, `schedule_batch.py`, `srt/mem_cache/radix_cache.py`.
"""
