"""The door to what only some systems have: each call that may be refused, with the portable way beside it."""
