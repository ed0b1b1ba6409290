"""Quantize a model to int8 and measure its accuracy."""
