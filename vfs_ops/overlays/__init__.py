"""What a patch resembles: similarities, factors, transforms, as plain arrays."""
