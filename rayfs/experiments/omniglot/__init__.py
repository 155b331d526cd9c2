"""The embedded Omniglot benchmarks, made from the dataset's own archives."""
