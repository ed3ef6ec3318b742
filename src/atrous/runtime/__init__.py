"""From pictures to class maps."""
