"""What is drawn and written about runs."""
