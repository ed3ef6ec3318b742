"""The guest wing: everything that speaks the formats of VastModelZOO."""
