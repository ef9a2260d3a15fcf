"""Static control parts: the IR, its C front end, schedules, legality, emission and features."""
