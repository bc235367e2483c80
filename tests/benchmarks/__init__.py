"""Speed, memory and start-up of the codec beside others: python tests/benchmarks --help."""
