"""Running a tower, training what is adapted in it, and what the frozen one makes of images."""
