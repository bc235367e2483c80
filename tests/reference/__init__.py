"""Decoders in pure Python, written from caecodec/FORMAT.md alone: they share no code with the package."""
