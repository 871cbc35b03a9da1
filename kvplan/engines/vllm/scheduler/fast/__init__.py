"""Requests with times through the scheduler, many steps at once: the answer of `served`, of what a server's state comes down to.

* `steps`: one group that looks at everything. `windows`: windows, beside such groups or alone, where no prompt shares anything.
* `pool`, `prefixes`: free blocks in the order of their use, and what is found in them. `tally`: steps until they are counted.

Held against `served` on random workloads, step for step: `tests/engines/vllm/test_replay.py`.
"""
