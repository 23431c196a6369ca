"""The way home: what lies in the portal drains to its primary, and what stays there is looked after (C5, C6, rules 3, 9-11, 24)."""
