"""How the factorized network is trained: for several qualities at once."""
