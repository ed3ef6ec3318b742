"""Masks in the formats of other tools, and a page of thumbnails."""
