"""The containers that photographs come in: what each says beside its pixels, and how that is written again."""
