"""What decides: pure, without IO, threads or clocks. See ``scheduler``."""
