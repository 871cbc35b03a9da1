"""The servers that an input starts: shell lines, compose files, manifests, units, settings files. Nothing is run or expanded.

A form is a file in `forms/`: it finds processes (`Call`) in a text. What an engine makes of a process stands in the engine's
folder (`commandline.py`).
"""
