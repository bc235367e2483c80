"""Training of the depthwise-residual network, for several qualities at once."""
