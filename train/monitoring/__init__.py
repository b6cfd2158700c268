"""What a run reports while it trains: metrics, TensorBoard, speed, traces and pictures."""
