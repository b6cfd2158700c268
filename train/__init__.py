"""The application, ``python -m train VERB``: trains and compares restoration networks."""
