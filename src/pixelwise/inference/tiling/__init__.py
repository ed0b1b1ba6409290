"""Predict a large image in tiles that give exactly the result of the whole image."""
