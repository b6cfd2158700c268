"""The verb ``study``: people compare restored photographs without knowing who restored them."""
