"""``make run``: HornetMail with a domain, users and a small primary that can be stopped, to look at and to play with."""
