"""Videos and cameras."""
