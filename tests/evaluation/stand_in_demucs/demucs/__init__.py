"""Stand-in for the package demucs: what cirlib calls of it, with stems of a known answer."""
