"""The family binary: three convolutions each way, and latents of one bit."""
