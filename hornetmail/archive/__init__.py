"""The encrypted archive. Files are the truth, ``archive.db`` is their index; bytes and invariants are in ``docs/formats/archive.rst``.

On disk, below the archive's directory::

    keyring            wrapped data keys (a copy lies on every medium)
    staging/*.log      records that are not yet on a medium
    leaves/*.log       the leaf log of this node
    leaves-checkpoint  where it ends, so that a start need not read all of it
    archive.db         SQLCipher: metadata and full text, rebuilt from media and key

and on a medium::

    medium             whose medium this is
    keyring            the same wrapped keys
    packs/tT/YYYY-MM/ID.pack     records of a tenant that expire in that month
    journal/tT/ID.pack           later facts that outlive any month
    leaves/nN/FIRST.run          hashes of sealed leaves

A mail's way: ``staging`` (durable, once for a queue row) → ``indexing`` → ``sealing`` (packs, read back) → ``shelf`` (reading).
"""
