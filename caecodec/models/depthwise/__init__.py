"""The family depthwise-residual: patches, and residual blocks of 1x1 and depthwise convolutions."""
