"""Videos and cameras."""

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".ts", ".webm")
"""What a video can be written as: containers whose frames may be any time apart."""
