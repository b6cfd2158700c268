"""The application, ``python -m train VERB``: trains and compares restoration networks."""

import os

# libvips reads this when pyvips is imported, wherever that is first, and then prints no warnings.
os.environ.setdefault("VIPS_WARNING", "1")
