"""The journal and its segments, bodies and their reading back."""
