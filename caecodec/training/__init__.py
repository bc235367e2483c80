"""Making weights: training, fitting entropy tables, exporting networks to the weights format."""
