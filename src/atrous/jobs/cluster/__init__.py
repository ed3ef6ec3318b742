"""One job shared by many machines, on Ray."""
