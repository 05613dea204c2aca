"""What probes run on: what they may wait for, the driver that waits for them, the kernel's clock. Under the probes."""
