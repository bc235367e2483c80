"""Making weights: fitting entropy tables and exporting networks to the weights format."""
