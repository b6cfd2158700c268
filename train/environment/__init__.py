"""What this program runs on: the machine, the packages, and the folders that it writes to."""
