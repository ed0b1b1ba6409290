"""Predict images with a model file: the one predict path of all commands."""
