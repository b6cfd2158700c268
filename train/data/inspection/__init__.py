"""``python -m train data``: reports what a data set contains and what is wrong with it."""
