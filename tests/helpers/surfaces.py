"""The overfitted codec as its users reach it."""

import caecodec


def encode(array, **parameters):
    return caecodec.OverfittedAutoencoder(**parameters).encode(array)
