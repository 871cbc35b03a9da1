"""Recorded cases, logs and field logs of SGLang."""
