"""What twistd finds: the whole service, and one plugin per role."""

from typing import Any

from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin
from zope.interface import implementer


@implementer(IPlugin, IServiceMaker)
class Maker:
    """Loads ``hornetmail.tap`` only when it is chosen, so that ``twistd --help`` stays quick."""

    def __init__(self, tapname: str, description: str, role: str = "") -> None:
        self.tapname = tapname
        self.description = description
        self._role = role

    @property
    def options(self) -> Any:
        from hornetmail import tap

        return tap.Options

    def makeService(self, options: Any) -> Any:
        from hornetmail import tap

        if self._role:
            options.roles = [self._role]
        return tap.makeService(options)


hornetmail = Maker("hornetmail", "HornetMail: e-mail continuity and encrypted archive, all roles")
hornetmail_smtp = Maker("hornetmail-smtp", "HornetMail, listening for SMTP only", "smtp")
hornetmail_delivery = Maker("hornetmail-delivery", "HornetMail, delivering only", "delivery")
hornetmail_portal = Maker("hornetmail-portal", "HornetMail, listening for IMAP and POP3 only", "portal")
hornetmail_archive = Maker("hornetmail-archive", "HornetMail, archiving only", "archive")
hornetmail_web = Maker("hornetmail-web", "HornetMail, the web site only", "web")
