"""Decoders: a file for each library that reads images. Each gives an `atha.data.samples.Opened`."""
