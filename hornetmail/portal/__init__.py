"""The portal: Maildirs with an index, what people read while their primary is away (C4), and what drains home afterwards (C5, C6).

On disk, below ``DIR/portal``::

    <tenant>/<mailbox ID>/Maildir/          INBOX
        new/ cur/ tmp/                      as everywhere; other programs may read and write them at any time
        .Sent/ .Drafts/ .A.B/ …             further folders (Maildir++): levels in modified UTF-7, joined by dots; a dot in a level is &AC4-
        subscriptions                       names of subscribed folders, one a line, in the same form without the first dot

Names of message files, up to the info part that begins with ``:2,``::

    <seconds>.R<row>P<number>[C<token>].<host>,S=<bytes>,E=<bytes>   delivered by us for that row of the queue; the first E bytes are the envelope
    <seconds>.M<µs>Q<n>P<random>.<host>,S=<bytes>,W=<bytes>       appended by a client, line ends CRLF
    <seconds>.M<µs>Q<n>P<random>.<host>[,S=<bytes>,W=<bytes>],O=<id>  a copy of such a one, or of another program's
    anything else                                                  from another program; bare LF line ends are served as CRLF

Invariants:

* A file that is there is a message; ``portal.db`` is an index of the files and can be dropped (then UIDVALIDITY changes and keywords that
  have no Maildir letter are lost). A row without a file is forgotten, a file without a row is taken in, at the next look.
* A message is durable (file and directory synced) before ``deliver`` or ``commit`` returns; removal is synced before ``expunge`` returns.
* ``portal.db`` may run with ``synchronous=NORMAL``. After a crash of the machine (not of the process) every folder skips
  ``SKIPPED_UIDS`` UIDs and modseqs, so that none is given out twice.
* The number behind ``R`` stays in the name wherever a message is moved or copied to: it is its identity for the drain. ``O`` says whose copy
  a message is that was not delivered by us (``naming.origin_of``).
"""
