"""From masks to a trained network: one recipe, runs that resume exactly, honest scores."""
