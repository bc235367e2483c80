"""The family residual-attention: residual blocks with GDN, and attention."""
