"""A fleet of real processes: what befalls one of them costs nobody an interval, and nothing is bought twice."""
