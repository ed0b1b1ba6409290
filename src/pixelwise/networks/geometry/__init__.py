"""Receptive field, stride and alignment of a network, as integers."""
