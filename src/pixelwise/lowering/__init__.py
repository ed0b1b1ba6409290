"""A model, or its network alone, as one graph of standard operators, and that graph as ONNX."""
