"""Load weights from files, classifiers and other models."""
