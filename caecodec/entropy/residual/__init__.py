"""Codes integer values so that each stays within an error bound."""
