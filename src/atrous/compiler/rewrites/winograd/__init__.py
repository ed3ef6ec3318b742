"""Convolutions of 3×3 in fewer multiplications: Winograd's minimal filtering."""
