"""vLLM's V1 scheduler and cache manager, step by step: which request runs, which blocks it takes, and whom it displaces.

The modules, in the order in which they build on each other: `settings` (what a server was told), `hashes` (names of prefixes),
`blocks` (the pool), `groups` and `states` (a group's rows of blocks), `cache` (all groups together), `scheduler` (a step),
`replay` (a workload).

Source: vllm 0.32.0 `vllm/v1/core/`. Golden: `tests/golden/vllm_scheduler.jsonl`, every recorded scenario exact.
"""
