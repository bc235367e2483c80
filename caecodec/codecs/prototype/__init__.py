"""Arrays of the archived prototype, read-only."""
