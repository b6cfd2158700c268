"""The application: train, evaluate and compare restoration networks. Run it as ``python -m train VERB``."""
