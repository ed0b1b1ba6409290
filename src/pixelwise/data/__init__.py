"""Datasets: formats, images and masks, splits, augmentation and training batches."""
