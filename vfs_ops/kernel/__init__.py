"""The score: exact in float64, and the fast passes that propose what it decides."""
