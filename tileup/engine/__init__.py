"""Many pictures: which ones, under which names, and one outcome for each."""
