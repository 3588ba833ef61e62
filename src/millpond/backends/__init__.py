"""How workers exist: as processes, as threads, or not at all. See ``base`` for what a backend is."""
