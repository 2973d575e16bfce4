"""What a thing is: canonical JSON, preprocessing, specs of extractors and caches, their ids."""
