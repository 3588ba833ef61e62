"""What runs in a worker, and what both sides of its channel speak. Imports nothing of the parent's side."""
