"""Codecs: what users name, each turning a chunk into a payload and back."""
