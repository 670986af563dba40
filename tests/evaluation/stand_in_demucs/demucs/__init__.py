"""Stand-in for the package demucs: the functions that cirlib calls, with known stems."""
