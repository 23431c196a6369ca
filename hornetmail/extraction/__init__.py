"""The words of files that hang on mail, read in processes of their own: what strangers send may be made to break whatever reads it.

``formats/`` knows the kinds of files, ``files.py`` which of them a file is; both are pure. ``confinement.py`` and ``child.py`` are the process that reads, ``readers.py`` starts and ends such
processes. What one of them may take is in ``bounds.py``.
"""
