"""Locations of data (paths, zipped stores, URLs), and outputs that are either complete or absent."""
