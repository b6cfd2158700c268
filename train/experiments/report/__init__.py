"""The pages of an experiment: sentences, figures, crops and tables."""
