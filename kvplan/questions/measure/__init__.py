"""What a model's own code really keeps from step to step, measured, and the description that says the same.

`observe` runs a model at several lengths and batch sizes (`subjects` builds and steps it, `tensors` finds what lives on),
`laws` fits how each tensor grows, `description` writes the laws as layers, `measured` puts one answer together and holds it
against lengths that were not used. Of a class, `stack` runs few layers for all: `depth` reads which from the config. A
stranger's file runs in a process of its own (`child`), which `apart` bounds in time and memory. Of these `laws`, `depth`,
`description` and `measured` are pure, and torch is touched only by what runs a model.
"""
