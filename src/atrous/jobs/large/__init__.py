"""Images larger than memory, read and written in rows."""
