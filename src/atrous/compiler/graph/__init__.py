"""The graph of a network: lookups, shapes, arithmetic, operator sets."""
