"""What is wrong with labelled images: labels that look wrong, copies, and images that show nothing."""
