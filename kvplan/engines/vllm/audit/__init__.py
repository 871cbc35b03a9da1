"""Recorded plans, pools and logs of vLLM."""
