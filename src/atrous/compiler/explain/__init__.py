"""Which layers make two models differ."""
