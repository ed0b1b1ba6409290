"""Predict an image in parts that give exactly what the whole image gives."""
