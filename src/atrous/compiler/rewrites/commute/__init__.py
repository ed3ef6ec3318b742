"""Convolve before enlarging instead of after."""
