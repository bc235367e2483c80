"""The codec of a trained autoencoder: latents of a network from a weights file."""
