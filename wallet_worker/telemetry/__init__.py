"""What a process shows of itself: log lines, metrics, health, and the endpoints and alarms on them."""
