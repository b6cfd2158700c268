"""Files of the application: written completely or not at all, read within bounds, and locked."""
