"""How near a picture is to the truth, and how natural it looks."""
