"""What is asked: rows or files become frozen values, and those become request lines in part files."""
