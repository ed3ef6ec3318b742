"""What a compile changed, as JSON and as a page."""
