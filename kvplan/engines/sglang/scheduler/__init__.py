"""SGLang's scheduler and radix cache, step by step: who is admitted, what is found, what is evicted, who is retracted.

The modules, in the order in which they build on each other: `settings` (what a server was told), `tree` (the radix cache),
`request`, `adder` (prompts of a step), `scheduler` (a step), `replay` (a workload tick by
tick), `serve` (requests with times).

Source: sglang 0.5.23, `srt/managers/scheduler.py`, `schedule_policy.py`, `schedule_batch.py`, `srt/mem_cache/unified_cache`.
Golden: `tests/golden/sglang_scheduler.jsonl`, every recorded scenario exact.
"""
