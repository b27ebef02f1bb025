"""What the use cases need from the world, as `typing.Protocol`s that state their promises. No adapter, no framework."""
