"""The configuration file: TOML into frozen structs."""
