"""Predict files: find inputs, predict them, and write the outputs."""
