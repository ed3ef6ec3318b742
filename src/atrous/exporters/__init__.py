"""From a checkpoint to files that other runtimes read, each compared with PyTorch."""
