"""Residual coding of values within a bound, in integers."""
