"""Turns chunks of an array into images and back: axes, planes, value ranges and tiles, on the CPU and on a device."""
