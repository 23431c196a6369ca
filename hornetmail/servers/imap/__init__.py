"""The IMAP door: ``ImapSite`` is what all connections share, ``ImapSession`` one conversation.

``site`` configuration and counters · ``session`` log-in and dispatch · ``folders`` everything about folders by name · ``view`` the selected
folder as this client counts it · ``messages``, ``finding`` what is done to its messages · ``watch`` bus hints to views · ``mounts`` whose folders stand where.
"""
