"""The twistd plugin: options and makeService; the one place that fetches the reactor for the service."""
