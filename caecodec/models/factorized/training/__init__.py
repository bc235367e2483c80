"""Training of the factorized network, for several qualities at once."""
