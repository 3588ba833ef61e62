"""What is measured, by kind; ``catalogue`` has them all."""
