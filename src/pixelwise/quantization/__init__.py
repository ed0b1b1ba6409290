"""Quantize a model to int8 and measure what it costs."""
