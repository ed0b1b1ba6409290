"""Predict files: find inputs, run a predictor, write outputs."""
