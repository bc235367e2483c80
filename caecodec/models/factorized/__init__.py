"""The family bmshj2018-factorized: CompressAI's factorized-prior autoencoder."""
