"""Capture a model or its network as a graph of standard operators, and convert it to ONNX."""
