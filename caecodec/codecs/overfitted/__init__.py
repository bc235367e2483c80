"""The overfitted codec: latents and a small network fitted to each chunk (FORMAT.md, 13: Overfitted chunks)."""
