"""How fast millpond is beside its peers: ``python -m benchmarks --help``, or ``make bench``."""
