"""Training: from initial weights to the best model, scored."""
