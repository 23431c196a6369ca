"""Flips, cuts, swaps, doubles and removes bytes, files, media and time under a real archive: each is found, named, and costs nothing beyond itself, also after a rebuild
(L3). What single faults have tests of their own in ``test_damage``, ``test_merging``, ``test_backup`` and ``test_mirror``; here nobody has chosen the place."""
