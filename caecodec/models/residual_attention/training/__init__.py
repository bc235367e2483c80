"""Training of the family residual-attention."""
