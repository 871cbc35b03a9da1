"""The scheduler over arrays: the same steps as `served`, of any layout of groups.

`serve` runs it, as machine code where llvmlite is installed (`engines/kernel/native`, extra `replay`); elsewhere its functions
are plain Python, slower than `served`, and not used. `state` says where each number lies, `pool` keeps blocks and what they are
known by, `groups` a group's rows, `lookups` what all groups know of a prompt, `loop` is a step.

Held against `served` on random workloads: `tests/engines/vllm/test_compiled.py`.
"""
