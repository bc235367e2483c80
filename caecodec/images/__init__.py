"""Reads, writes and lists image files; images in memory; distortion metrics."""
