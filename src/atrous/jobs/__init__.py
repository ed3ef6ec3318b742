"""Whatever a predictor is run over: folders, large images, videos, clusters."""
