"""SDK config files, as processes outside OCI have them."""

from collections.abc import Mapping
from pathlib import Path


def write_config_file(folder: Path, name: str, config: Mapping[str, str]) -> Path:
    """Write a config of the sandbox as `<name>.config`, which names its key's file; only their owner may read both."""
    key_file, config_file = folder / f"{name}.pem", folder / f"{name}.config"
    lines = [f"{k}={v}" for k, v in config.items() if k != "key_content"]
    texts = {
        key_file: config["key_content"],
        config_file: "\n".join(["[DEFAULT]", *lines, f"key_file={key_file}", ""]),
    }
    for file, text in texts.items():
        file.touch(mode=0o600)
        file.write_text(text)
    return config_file
