"""Video files to the region of the mouth."""
