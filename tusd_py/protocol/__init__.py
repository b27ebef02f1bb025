"""tus 1.0 as pure functions: values in, values or a `Refusal` out. No await, clock, path, logger, socket or framework."""
