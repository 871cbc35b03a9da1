"""One form a file: `reads(source)` says whether a text is of it, `found(source)` the processes in it."""
