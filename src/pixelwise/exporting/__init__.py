"""Export a model as one file of another runtime, from image to label map."""
