"""From unlabelled photos to a classifier: which to label next, how good it is already, and when to stop."""
