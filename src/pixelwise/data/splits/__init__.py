"""Splits into training, validation and test samples."""
