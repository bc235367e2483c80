"""Model families by name; the wire ids are in bitstream/autoencoder.py."""

from .factorized.network import FactorizedPrior

FAMILIES = {"cae": FactorizedPrior}
