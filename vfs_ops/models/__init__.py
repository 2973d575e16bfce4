"""Models: checkpoints, layers, feature maps of batches of images."""
