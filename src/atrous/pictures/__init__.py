"""Picture files: found, opened, decoded, and what their samples mean."""
