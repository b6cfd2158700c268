"""How restored photographs are scored, and pictures of where they are wrong."""
