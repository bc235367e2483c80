"""Stored arrays: the payloads of their chunks, inspection, alignment."""
