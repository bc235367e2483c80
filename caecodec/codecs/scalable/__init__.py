"""The scalable autoencoder: a base layer and enhancement layers in one payload (FORMAT.md, 25: Layers)."""
