"""A run, from fresh weights to a scored model file."""
