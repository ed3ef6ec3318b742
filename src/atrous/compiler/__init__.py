"""From a network and a YAML file to the artefact that says the same in less time."""
