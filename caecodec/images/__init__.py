"""Image files, images in memory, and distortion metrics."""
