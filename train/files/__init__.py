"""Files of the application: written whole or not at all, read within bounds, locked while in use."""
