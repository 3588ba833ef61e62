"""millpond."""
