"""Measure how fast a model runs, and say what holds it back."""
