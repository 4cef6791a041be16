"""What the operating system says of the processor."""


def cpu_model():
    """Name of the processor as its maker wrote it."""
    try:
        # line by line: with hundreds of cores the whole file takes long
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() in ("model name", "Model") and value.strip():
                    return value.strip()
    except (OSError, UnicodeDecodeError):
        pass
    import platform

    return platform.processor() or platform.machine() or "unknown"
