"""Networks: float32 images <-> integer latents. A model family is one file here and one line in registry.py."""
