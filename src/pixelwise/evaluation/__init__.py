"""Evaluate a model on labeled images."""
