"""Integer latents <-> coded streams. An entropy model is a file here and a line in registry.py."""
