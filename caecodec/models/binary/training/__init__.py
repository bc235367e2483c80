"""Training of the binary network, for several qualities at once."""
