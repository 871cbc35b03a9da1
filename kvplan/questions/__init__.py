"""One word a question: values in, values out; no I/O, no printing."""
