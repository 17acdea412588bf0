"""What came back: result lines become Arrow columns, typed values, and rows."""
