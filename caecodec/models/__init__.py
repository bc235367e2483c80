"""Networks: float32 images <-> integer latents. A family is a folder here and a line in registry.py."""
