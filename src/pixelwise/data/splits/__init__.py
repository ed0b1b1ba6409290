"""Split a dataset into training, validation and test samples, or into folds."""
