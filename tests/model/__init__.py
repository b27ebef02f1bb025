"""The protocol as a whole: random sequences of requests to a real server, which a model in memory predicts."""
