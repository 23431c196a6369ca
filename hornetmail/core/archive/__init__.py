"""What is known of archived mail: hits, retention, time stamps, figures."""
