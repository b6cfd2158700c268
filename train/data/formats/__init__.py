"""File formats of photographs: what each says beside its pixels, and how that is written again."""
