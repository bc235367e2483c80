"""Chunks of an array as images: axes, planes, value ranges and tiles, on the CPU and on a device."""
