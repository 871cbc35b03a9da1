"""Rows and readers, named as people name models."""
