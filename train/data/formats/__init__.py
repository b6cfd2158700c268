"""File formats of photographs: reads what accompanies the pixels, and writes it again."""
