"""Speed, memory and start-up time of the codec, compared with others: python tests/benchmarks --help."""
