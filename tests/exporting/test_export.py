"""Whole exports: what is written, that it is the model, and what is refused."""
