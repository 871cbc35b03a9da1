"""Predictions against real torch allocations. The only package that touches torch, and only when called.

`tensors` turns an `Allocation` into the list of tensors to allocate, `kvplan.domain.caching_allocator` predicts what CUDA's
allocator makes of them, `allocate` holds real ones, `devices` reads each backend's figures, `compare` holds
both sides together, `probe` searches for the largest batch, `session` puts one run together and `distributed`
spreads it over the ranks of torchrun. `tensors` and `compare` are pure.
"""
