"""``python -m train data``: what a data set holds, and what is wrong with it."""
