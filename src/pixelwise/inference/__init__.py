"""From a model file and an image to labels: the one predict path."""
