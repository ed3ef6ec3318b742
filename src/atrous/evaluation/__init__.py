"""Measure accuracy, and say how it was measured."""
