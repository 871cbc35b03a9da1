"""llama.cpp over several devices and the host: which layer, tensor, cache and buffer lies where.

`place()` (in `place.py`) answers it; `devices` says what a device is and which of them take part, `split` which layer goes to
which, `weights` where each tensor of the file goes, `patterns` what moves tensors by name, `fit` what the engine's own `--fit`
chooses. Pure: nothing here looks at a machine.
"""
