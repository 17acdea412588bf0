"""Quick ways with Arrow and JSON bytes; nothing here knows of batches."""
