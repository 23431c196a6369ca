"""Where everything is built and joined; nothing else knows everybody."""
