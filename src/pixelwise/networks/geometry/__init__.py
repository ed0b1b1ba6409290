"""Receptive field, stride, halo and legal input sizes of a network, as integers."""

from pixelwise.networks.geometry.network_geometry import Halo, NetworkGeometry, trace_geometry

__all__ = ["Halo", "NetworkGeometry", "trace_geometry"]
